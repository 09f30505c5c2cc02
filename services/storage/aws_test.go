package storage

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/structpb"

	storagev1 "github.com/sebs-suite/sebs/gen/go/sebs/storage/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/credentials"
	"github.com/sebs-suite/sebs/internal/secret"
	"github.com/sebs-suite/sebs/platform/awsconfig"
	"github.com/sebs-suite/sebs/test/awsstand"
)

const awsA = "platforms/aws/deployments/aaaa0000"

// startAWS runs the service with the stores of AWS on the stand. Without keys there is no credential.
func startAWS(t *testing.T, stand *awsstand.Stand, withKeys bool) *bench {
	t.Helper()
	config := credentials.Config{}
	if withKeys {
		pair := map[string]secret.String{"access_key": secret.New(stand.AccessKey), "secret_key": secret.New(stand.SecretKey)}
		config["aws"] = map[string]map[string]secret.String{"default": pair, "team": pair}
	}
	resolver := credentials.NewResolver(config, func(string) string { return "" })
	stores := newAWSStores(awsconfig.NewOpener(awsconfig.Settings{Endpoint: stand.Endpoint, Region: stand.Region}, resolver, nil))
	t.Cleanup(func() {
		if err := stores.close(t.Context()); err != nil {
			t.Error(err)
		}
	})
	return startWith(t, map[string]Platform{"aws": stores.platform()})
}

// recordIn makes a deployment known that lies somewhere.
func (b *bench) recordIn(t *testing.T, d deployment, rec *typev1.Deployment) {
	t.Helper()
	have := &typev1.Deployment{}
	_, err := b.records.Update(t.Context(), d.record(), have, true, func() error {
		have.Region, have.Credential, have.Buckets = rec.GetRegion(), rec.GetCredential(), rec.GetBuckets()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestAWSStores(t *testing.T) {
	t.Parallel()
	stand := awsstand.Start(t, awsstand.Options{})
	b := startAWS(t, stand, true)
	ctx := t.Context()
	b.recordIn(t, deployment{"aws", "aaaa0000"}, &typev1.Deployment{Region: "eu-central-1", Credential: "team"})

	bucket := b.ensure(t, awsA, typev1.BucketRole_BUCKET_ROLE_BENCHMARKS)
	if bucket.GetBucketId() != "sebs-benchmarks-aaaa0000" {
		t.Errorf("bucket %v", bucket)
	}
	facts, err := b.client.GetObjectStorage(ctx, &storagev1.GetObjectStorageRequest{Parent: awsA})
	if err != nil || facts.GetRegion() != "eu-central-1" || facts.GetDriver() != "s3" || facts.GetEmbedded() {
		t.Errorf("object store %v, %v", facts, err)
	}
	b.mustUpload(t, bucket.GetName(), "in/1.bin", []byte("content"))
	var back bytes.Buffer
	if _, err := b.download(ctx, &storagev1.DownloadObjectRequest{Bucket: bucket.GetName(), Key: "in/1.bin"}, &back); err != nil || back.String() != "content" {
		t.Errorf("read back %q, %v", back.String(), err)
	}

	table := createCart(t, b, awsA)
	if table.GetTableId() != "sebs-benchmarks-aaaa0000-130.crud-api-shopping_cart" || !table.GetCreated() {
		t.Errorf("table %v", table)
	}
	data, err := structpb.NewStruct(map[string]any{"price": 5})
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.client.WriteItem(ctx, &storagev1.WriteItemRequest{
		Table: table.GetName(), PrimaryKey: &storagev1.ItemKey{Name: "cart_id", Value: "c"}, SecondaryKey: &storagev1.ItemKey{Name: "product_id", Value: "p"}, Data: data,
	})
	if err != nil {
		t.Fatal(err)
	}

	env, err := b.client.GetFunctionEnvironment(ctx, &storagev1.GetFunctionEnvironmentRequest{Parent: awsA, Benchmark: "130.crud-api", UsesObjects: true, UsesTables: true})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, v := range env.GetVariables() {
		got[v.GetName()] = v.GetValue()
	}
	// The role and Lambda's own variables lead to the rest.
	if diff := cmp.Diff(map[string]string{"NOSQL_STORAGE_TABLE_shopping_cart": table.GetTableId()}, got); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}

	found, err := b.client.FindDeployments(ctx, &storagev1.FindDeploymentsRequest{Parent: "platforms/aws", Credential: "team"})
	if err != nil || !slices.Equal(found.GetResourcesIds(), []string{"aaaa0000"}) {
		t.Errorf("found %v, %v", found, err)
	}
	_, err = b.client.FindDeployments(ctx, &storagev1.FindDeploymentsRequest{Parent: "platforms/aws", Credential: "nobody"})
	wantCode(t, "by a credential that is not there", err, codes.FailedPrecondition, awsconfig.ReasonCredentialsMissing)
	// The tables of the default region are not this deployment's.
	other, err := b.client.ListTables(ctx, &storagev1.ListTablesRequest{Parent: "platforms/aws/deployments/bbbb0000"})
	if err != nil || len(other.GetTables()) != 0 {
		t.Errorf("tables of another deployment: %v, %v", other, err)
	}
}

// TestAWSCleanup shows that a dry run names what a real one removes, also when no record is left.
func TestAWSCleanup(t *testing.T) {
	t.Parallel()
	stand := awsstand.Start(t, awsstand.Options{Region: "eu-west-1"})
	b := startAWS(t, stand, true)
	ctx := t.Context()
	d := deployment{"aws", "aaaa0000"}
	b.recordIn(t, d, &typev1.Deployment{Region: "eu-west-1", Buckets: []*typev1.BucketBinding{
		{Role: typev1.BucketRole_BUCKET_ROLE_EXPERIMENTS, Bucket: "my-aaaa0000-results"},
	}})
	for _, role := range []typev1.BucketRole{typev1.BucketRole_BUCKET_ROLE_DEPLOYMENT, typev1.BucketRole_BUCKET_ROLE_BENCHMARKS, typev1.BucketRole_BUCKET_ROLE_EXPERIMENTS} {
		b.mustUpload(t, b.ensure(t, awsA, role).GetName(), "x", []byte("1"))
	}
	createCart(t, b, awsA)
	neighbour := b.ensure(t, "platforms/aws/deployments/bbbb0000", typev1.BucketRole_BUCKET_ROLE_BENCHMARKS)
	createCart(t, b, "platforms/aws/deployments/bbbb0000")

	// A bucket that was given to the deployment stays, whatever it is called.
	want := []string{"sebs-benchmarks-aaaa0000", "sebs-deployment-aaaa0000"}
	cleanup := func(dryRun bool) (buckets, tables []string) {
		t.Helper()
		gone, err := b.client.CleanupBuckets(ctx, &storagev1.CleanupBucketsRequest{Parent: awsA, DryRun: dryRun})
		if err != nil {
			t.Fatal(err)
		}
		dropped, err := b.client.CleanupTables(ctx, &storagev1.CleanupTablesRequest{Parent: awsA, DryRun: dryRun})
		if err != nil {
			t.Fatal(err)
		}
		return gone.GetBuckets(), dropped.GetTables()
	}
	dry, dryTables := cleanup(true)
	if !slices.Equal(dry, want) || len(dryTables) != 1 {
		t.Errorf("dry run: %v, %v; want %v", dry, dryTables, want)
	}
	// The record is lost; what follows the naming rules is still found.
	b.records.mu.Lock()
	delete(b.records.data, d.record())
	b.records.mu.Unlock()
	dry, dryTables = cleanup(true)
	gone, goneTables := cleanup(false)
	if !slices.Equal(dry, want) || !slices.Equal(dry, gone) || !slices.Equal(dryTables, goneTables) || len(goneTables) != 1 {
		t.Errorf("dry run %v, %v; real run %v, %v", dry, dryTables, gone, goneTables)
	}
	if dry, dryTables = cleanup(true); len(dry)+len(dryTables) != 0 {
		t.Errorf("left: %v, %v", dry, dryTables)
	}
	for _, name := range []string{neighbour.GetName(), awsA + "/buckets/my-aaaa0000-results"} {
		if _, err := b.client.GetBucket(ctx, &storagev1.GetBucketRequest{Name: name}); err != nil {
			t.Errorf("somebody else's bucket: %v", err)
		}
	}
	left, err := b.client.ListTables(ctx, &storagev1.ListTablesRequest{Parent: "platforms/aws/deployments/bbbb0000"})
	if err != nil || len(left.GetTables()) != 1 {
		t.Errorf("the neighbour's tables: %v, %v", left, err)
	}
}

// TestAWSIsOpenedOnUse shows that the other platforms need no credential of AWS, and that AWS says what is missing.
func TestAWSIsOpenedOnUse(t *testing.T) {
	t.Parallel()
	stand := awsstand.Start(t, awsstand.Options{})
	b := startAWS(t, stand, false)
	b.ensure(t, localA, typev1.BucketRole_BUCKET_ROLE_BENCHMARKS)
	_, err := b.client.EnsureBucket(t.Context(), &storagev1.EnsureBucketRequest{Parent: awsA, Role: typev1.BucketRole_BUCKET_ROLE_BENCHMARKS})
	wantCode(t, "without a credential", err, codes.FailedPrecondition, awsconfig.ReasonCredentialsMissing)
	if len(stand.Calls()) != 0 {
		t.Errorf("AWS was asked: %v", stand.Calls())
	}
	for _, text := range []string{stand.SecretKey, stand.AccessKey} {
		if strings.Contains(err.Error(), text) {
			t.Errorf("the error shows a key: %v", err)
		}
	}
}
