package aws_test

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"go.uber.org/goleak"

	"github.com/sebs-suite/sebs/platform/awsconfig"
	"github.com/sebs-suite/sebs/platform/faas/aws"
	"github.com/sebs-suite/sebs/platform/faas/driver"
	"github.com/sebs-suite/sebs/platform/faas/drivertest"
	"github.com/sebs-suite/sebs/test/awsstand"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("gopkg.in/natefinch/lumberjack%2ev2.(*Logger).millRun"))
}

const (
	testDeployment = "aws-0a1b2c3d"
	testBucket     = "sebs-benchmarks-aws-0a1b2c3d"
)

// opened is the SDK's configuration for a stand.
func opened(stand *awsstand.Stand) awsconfig.Opened {
	return awsconfig.Opened{
		Config: sdk.Config{
			Region: stand.Region, BaseEndpoint: sdk.String(stand.Endpoint),
			Credentials: credentials.NewStaticCredentialsProvider(stand.AccessKey, stand.SecretKey, ""),
		},
		Source: awsconfig.SourceConfiguration, Endpoint: stand.Endpoint,
	}
}

// onStand returns a driver of a stand that has the deployment's bucket.
func onStand(t *testing.T) (*awsstand.Stand, *aws.Driver) {
	t.Helper()
	stand := awsstand.Start(t, awsstand.Options{})
	d := aws.New(opened(stand), aws.Options{Poll: 10 * time.Millisecond, Patience: time.Minute})
	t.Cleanup(func() { _ = d.Close() })
	client := s3.NewFromConfig(opened(stand).Config, func(o *s3.Options) { o.UsePathStyle = true })
	if _, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: sdk.String(testBucket)}); err != nil {
		t.Fatal(err)
	}
	return stand, d
}

// archive is a function that answers its input and logs its marker.
func archive(t *testing.T, revision int) []byte {
	t.Helper()
	return zipOf(t, map[string]string{"handler.py": fmt.Sprintf(
		"# revision %d\ndef handler(event, context=None):\n    print('marker', event['marker'], flush=True)\n    return event\n", revision)})
}

func zipOf(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for name, text := range files {
		file, err := w.Create(name)
		if err == nil {
			_, err = io.Copy(file, strings.NewReader(text))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func codeOf(content []byte, digest string) driver.Code {
	sum := sha256.Sum256(content)
	return driver.Code{
		Digest: digest, ContentSHA256: hex.EncodeToString(sum[:]), SizeBytes: int64(len(content)),
		Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil },
	}
}

func testConfig() driver.Config {
	return driver.Config{
		Runtime: driver.Runtime{Language: "python", Version: "3.11"}, Architecture: "x64", MemoryMB: 256, Timeout: 10 * time.Second, Handler: "handler.handler",
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	_, d := onStand(t)
	drivertest.Run(t, func(t *testing.T) *drivertest.Harness {
		return &drivertest.Harness{
			Driver: d, Deployment: testDeployment, Prefix: "conformance", Config: testConfig(),
			Code:   func(revision int) driver.Code { return codeOf(archive(t, revision), fmt.Sprintf("%064d", revision)) },
			Bucket: testBucket, CaseTimeout: time.Minute,
		}
	}, drivertest.Except{})
}
