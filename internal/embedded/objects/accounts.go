package objects

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/s3err"

	"github.com/sebs-suite/sebs/internal/secret"
)

// functionAccountPrefix starts the access key of every account made for the functions of one deployment.
const functionAccountPrefix = "sebs-fn-"

var deploymentID = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,46}$`)

// Account is a key pair that the store accepts.
type Account struct {
	AccessKey string
	SecretKey secret.String
}

// state is what a store remembers in its directory between runs.
type state struct {
	AccessKey string `json:"access_key"`
	SecretKey string `json:"secret_key"`
	Port      int    `json:"port"`
}

// loadState reads the state file or makes one with random credentials. The file is readable by its owner only.
func loadState(path string) (state, error) {
	raw, err := os.ReadFile(path)
	if err == nil {
		var s state
		if err := json.Unmarshal(raw, &s); err != nil {
			return state{}, fmt.Errorf("read object store credentials %s: %w; remove the file to get new ones", path, err)
		}
		if s.AccessKey == "" || s.SecretKey == "" {
			return state{}, fmt.Errorf("read object store credentials %s: a key is empty; remove the file to get new ones", path)
		}
		// A file that was copied or restored may have lost its mode.
		if err := os.Chmod(path, 0o600); err != nil {
			return state{}, fmt.Errorf("protect object store credentials: %w", err)
		}
		return s, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return state{}, fmt.Errorf("read object store credentials: %w", err)
	}
	s := state{AccessKey: "sebs-root-" + randomHex(8), SecretKey: randomHex(32)}
	return s, s.save(path)
}

// save writes the state file as a whole or not at all.
func (s state) save(path string) error {
	raw, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode object store credentials: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".state-*")
	if err != nil {
		return fmt.Errorf("write object store credentials: %w", err)
	}
	_, err = tmp.Write(raw)
	err = errors.Join(err, tmp.Chmod(0o600), tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write object store credentials: %w", err), os.Remove(tmp.Name()))
	}
	return nil
}

func randomHex(bytes int) string {
	b := make([]byte, bytes)
	rand.Read(b) // never fails since Go 1.24: the program is stopped instead
	return hex.EncodeToString(b)
}

// accounts answers the gateway's questions about key pairs. Nothing is stored: the secret of a deployment's account
// follows from its name and the root secret.
type accounts struct {
	root    auth.Account
	derived []byte
}

var _ auth.IAMService = (*accounts)(nil)

func newAccounts(s state) *accounts {
	return &accounts{
		root:    auth.Account{Access: s.AccessKey, Secret: s.SecretKey, Role: auth.RoleAdmin},
		derived: []byte(s.SecretKey),
	}
}

// function returns the account of a deployment's functions.
func (a *accounts) function(deployment string) (Account, error) {
	if !deploymentID.MatchString(deployment) {
		return Account{}, fmt.Errorf("deployment %q cannot have a store account: use lower case letters, digits and dashes, at most 47 characters", deployment)
	}
	access := functionAccountPrefix + deployment
	return Account{AccessKey: access, SecretKey: secret.New(a.secretOf(access))}, nil
}

func (a *accounts) secretOf(access string) string {
	mac := hmac.New(sha256.New, a.derived)
	mac.Write([]byte(access))
	return hex.EncodeToString(mac.Sum(nil))
}

// GetUserAccount implements auth.IAMService.
func (a *accounts) GetUserAccount(access string) (auth.Account, error) {
	if access == a.root.Access {
		return a.root, nil
	}
	deployment, ok := strings.CutPrefix(access, functionAccountPrefix)
	if !ok || !deploymentID.MatchString(deployment) {
		return auth.Account{}, auth.ErrNoSuchUser
	}
	return auth.Account{Access: access, Secret: a.secretOf(access), Role: auth.RoleUser}, nil
}

// ResolveAccounts implements auth.IAMService: it returns the keys that name no account.
func (a *accounts) ResolveAccounts(accessKeys []string) ([]string, error) {
	missing := []string{}
	for _, k := range accessKeys {
		if _, err := a.GetUserAccount(k); err != nil {
			missing = append(missing, k)
		}
	}
	return missing, nil
}

// CreateAccount implements auth.IAMService; accounts follow from the root secret and cannot be added.
func (*accounts) CreateAccount(auth.Account) error { return accountsAreDerived() }

// UpdateUserAccount implements auth.IAMService; see CreateAccount.
func (*accounts) UpdateUserAccount(string, auth.MutableProps) error { return accountsAreDerived() }

// DeleteUserAccount implements auth.IAMService; see CreateAccount.
func (*accounts) DeleteUserAccount(string) error { return accountsAreDerived() }

// ListUserAccounts implements auth.IAMService; see CreateAccount.
func (*accounts) ListUserAccounts() ([]auth.Account, error) { return nil, accountsAreDerived() }

// Shutdown implements auth.IAMService.
func (*accounts) Shutdown() error { return nil }

func accountsAreDerived() error { return s3err.GetAPIError(s3err.ErrAdminMethodNotSupported) }

// FunctionPolicy is the bucket policy that lets one function account list, read, write and delete objects of one
// bucket, and nothing else.
func FunctionPolicy(bucket, accessKey string) ([]byte, error) {
	type statement struct {
		Effect    string
		Principal map[string][]string
		Action    []string
		Resource  []string
	}
	who := map[string][]string{"AWS": {accessKey}}
	return json.Marshal(struct {
		Version   string
		Statement []statement
	}{"2012-10-17", []statement{
		{"Allow", who, []string{"s3:ListBucket", "s3:GetBucketLocation", "s3:ListBucketMultipartUploads"}, []string{"arn:aws:s3:::" + bucket}},
		{"Allow", who, []string{"s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"}, []string{"arn:aws:s3:::" + bucket + "/*"}},
	}})
}
