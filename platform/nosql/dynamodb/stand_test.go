package dynamodb_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	ddb "github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/sebs-suite/sebs/platform/awsconfig"
	"github.com/sebs-suite/sebs/platform/nosql"
	"github.com/sebs-suite/sebs/platform/nosql/driver"
	"github.com/sebs-suite/sebs/platform/nosql/drivertest"
	"github.com/sebs-suite/sebs/platform/nosql/dynamodb"
	"github.com/sebs-suite/sebs/test/awsstand"
)

func openedFor(stand *awsstand.Stand) awsconfig.Opened {
	return awsconfig.Opened{Endpoint: stand.Endpoint, Config: aws.Config{
		Region: stand.Region, BaseEndpoint: &stand.Endpoint,
		Credentials: credentials.NewStaticCredentialsProvider(stand.AccessKey, stand.SecretKey, ""),
	}}
}

// TestConformanceStand runs the suite on what stands in for AWS.
func TestConformanceStand(t *testing.T) {
	t.Parallel()
	stand := awsstand.Start(t, awsstand.Options{Region: "eu-central-1"})
	drivertest.Run(t, func(*testing.T) driver.Store { return dynamodb.OpenAWS(openedFor(stand)) }, nil)
}

// TestTags shows that a table says whose it is.
func TestTags(t *testing.T) {
	t.Parallel()
	stand := awsstand.Start(t, awsstand.Options{MotoTables: true})
	store := nosql.New(dynamodb.OpenAWS(openedFor(stand)))
	defer func() { _ = store.Close() }()
	ctx := t.Context()
	if _, err := store.CreateTable(ctx, nosql.Schema{Table: "tagged", Primary: "k"}, map[string]string{"sebs:deployment": "1a2b3c4d"}); err != nil {
		t.Fatal(err)
	}
	api := ddb.NewFromConfig(openedFor(stand).Config)
	table, err := api.DescribeTable(ctx, &ddb.DescribeTableInput{TableName: aws.String("tagged")})
	if err != nil {
		t.Fatal(err)
	}
	tags, err := api.ListTagsOfResource(ctx, &ddb.ListTagsOfResourceInput{ResourceArn: table.Table.TableArn})
	if err != nil || len(tags.Tags) != 1 || aws.ToString(tags.Tags[0].Key) != "sebs:deployment" || aws.ToString(tags.Tags[0].Value) != "1a2b3c4d" {
		t.Errorf("tags %v, %v", tags, err)
	}
}
