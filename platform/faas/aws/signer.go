package aws

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"sync"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/sebs-suite/sebs/platform/awsconfig"
	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// Signer signs requests to function URLs with Signature Version 4. It is safe for concurrent use.
type Signer struct {
	opener *awsconfig.Opener
	signer *v4.Signer

	mu     sync.Mutex
	opened map[driver.Scope]awsconfig.Opened
}

// NewSigner returns a signer that takes credentials from the opener.
func NewSigner(opener *awsconfig.Opener) *Signer {
	return &Signer{opener: opener, signer: v4.NewSigner(), opened: make(map[driver.Scope]awsconfig.Opened)}
}

// Sign adds the signature of the scope's credential to a request with the given body. Headers must not change afterwards.
func (s *Signer) Sign(ctx context.Context, scope driver.Scope, request *http.Request, body []byte) error {
	opened, err := s.open(ctx, scope)
	if err != nil {
		return err
	}
	credential, err := opened.Credentials.Retrieve(ctx)
	if err != nil {
		return fmt.Errorf("read the AWS credential: %w", err)
	}
	sum := sha256.Sum256(body)
	if err := s.signer.SignHTTP(ctx, credential, request, hex.EncodeToString(sum[:]), "lambda", opened.Region, time.Now()); err != nil {
		return fmt.Errorf("sign a request: %w", err)
	}
	return nil
}

func (s *Signer) open(ctx context.Context, scope driver.Scope) (awsconfig.Opened, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if opened, ok := s.opened[scope]; ok {
		return opened, nil
	}
	opened, err := s.opener.Open(ctx, scope.Credential, scope.Region)
	if err != nil {
		return awsconfig.Opened{}, err
	}
	s.opened[scope] = opened
	return opened, nil
}
