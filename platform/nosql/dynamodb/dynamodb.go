// Package dynamodb drives any store that speaks DynamoDB's API: DynamoDB itself, ScyllaDB Alternator, dynalite,
// DynamoDB Local.
package dynamodb

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	ddb "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"
	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/internal/secret"
	"github.com/sebs-suite/sebs/platform/awsconfig"
	"github.com/sebs-suite/sebs/platform/nosql/driver"
)

// tableTimeout bounds the wait for a table to come or go.
const tableTimeout = 5 * time.Minute

// batchItems is how many items the API takes in one batch.
const batchItems = 25

// Config says where the store is and who asks. Endpoint is required.
type Config struct {
	// Endpoint is host:port, or a URL with scheme http or https. Without a scheme it is http.
	Endpoint string
	// AccessKey and SecretKey are "None" when empty: stores without accounts take any pair.
	AccessKey string
	SecretKey secret.String
	// Region is us-east-1 when empty.
	Region string
	// Transport carries the requests; nil makes one of its own.
	Transport http.RoundTripper
	// MaxAttempts is how often a request is tried that was throttled or failed on the way; 8 when 0.
	MaxAttempts int
	// MaxBackoff bounds the wait between attempts; 5 s when 0.
	MaxBackoff time.Duration
	// TableTimeout bounds the wait for a table to come or go; 5 minutes when 0.
	TableTimeout time.Duration
}

// Store implements driver.Store.
type Store struct {
	api     *ddb.Client
	close   func()
	timeout time.Duration
	// tagged is whether the store takes tags with a new table. Not all that speak the API do.
	tagged bool
}

var _ driver.Store = (*Store)(nil)

// Open makes a client. It does not connect yet.
func Open(cfg Config) (*Store, error) {
	endpoint := cfg.Endpoint
	if !strings.Contains(endpoint, "://") {
		endpoint = "http://" + endpoint
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || u.User != nil {
		return nil, fmt.Errorf("%q is no table store endpoint; write host:port or a URL like https://host:port", cfg.Endpoint)
	}
	if cfg.Region == "" {
		cfg.Region = "us-east-1"
	}
	access, key := cfg.AccessKey, cfg.SecretKey.Reveal()
	if access == "" || key == "" {
		access, key = "None", "None"
	}
	attempts, backoff := cfg.MaxAttempts, cfg.MaxBackoff
	if attempts == 0 {
		attempts = 8
	}
	if backoff == 0 {
		backoff = 5 * time.Second
	}
	closeIdle := func() {}
	if cfg.Transport == nil {
		t := transport()
		cfg.Transport, closeIdle = t, t.CloseIdleConnections
	}
	api := ddb.New(ddb.Options{
		BaseEndpoint: aws.String(endpoint),
		Region:       cfg.Region,
		Credentials:  credentials.NewStaticCredentialsProvider(access, key, ""),
		HTTPClient:   &http.Client{Transport: cfg.Transport},
		Retryer: retry.NewStandard(func(o *retry.StandardOptions) {
			o.MaxAttempts, o.MaxBackoff = attempts, backoff
		}),
	})
	return &Store{api: api, close: closeIdle, timeout: cmp.Or(cfg.TableTimeout, tableTimeout)}, nil
}

// OpenAWS makes a client of DynamoDB itself, with AWS's credentials, region and retries. It does not connect yet.
func OpenAWS(opened awsconfig.Opened) *Store {
	closeIdle := func() {}
	if opened.HTTPClient == nil {
		t := transport()
		opened.HTTPClient, closeIdle = &http.Client{Transport: t}, t.CloseIdleConnections
	}
	return &Store{api: ddb.NewFromConfig(opened.Config), close: closeIdle, timeout: tableTimeout, tagged: true}
}

func transport() *http.Transport {
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		MaxIdleConnsPerHost: 32,
		IdleConnTimeout:     time.Minute,
		TLSHandshakeTimeout: 10 * time.Second,
	}
}

// CreateTable implements driver.Store: keys of type S, paid per request.
func (s *Store) CreateTable(ctx context.Context, t driver.Schema, tags map[string]string) error {
	in := &ddb.CreateTableInput{
		TableName:            &t.Table,
		BillingMode:          types.BillingModePayPerRequest,
		KeySchema:            []types.KeySchemaElement{{AttributeName: &t.Primary, KeyType: types.KeyTypeHash}},
		AttributeDefinitions: []types.AttributeDefinition{{AttributeName: &t.Primary, AttributeType: types.ScalarAttributeTypeS}},
	}
	if t.Secondary != "" {
		in.KeySchema = append(in.KeySchema, types.KeySchemaElement{AttributeName: &t.Secondary, KeyType: types.KeyTypeRange})
		in.AttributeDefinitions = append(in.AttributeDefinitions, types.AttributeDefinition{AttributeName: &t.Secondary, AttributeType: types.ScalarAttributeTypeS})
	}
	if s.tagged {
		for key, value := range tags {
			in.Tags = append(in.Tags, types.Tag{Key: &key, Value: &value})
		}
	}
	_, err := s.api.CreateTable(ctx, in)
	var busy *types.ResourceInUseException
	if err != nil && !errors.As(err, &busy) {
		return err
	}
	// One that is being made by somebody else is waited for as well.
	if wait := s.waitActive(ctx, t.Table); wait != nil {
		return wait
	}
	return err
}

func (s *Store) waitActive(ctx context.Context, table string) error {
	w := ddb.NewTableExistsWaiter(s.api, func(o *ddb.TableExistsWaiterOptions) {
		o.MinDelay, o.MaxDelay = 50*time.Millisecond, 5*time.Second
	})
	if err := w.Wait(ctx, &ddb.DescribeTableInput{TableName: &table}, s.timeout); err != nil {
		return fmt.Errorf("wait for table %s to become active: %w", table, err)
	}
	return nil
}

// DescribeTable implements driver.Store.
func (s *Store) DescribeTable(ctx context.Context, table string) (driver.Schema, error) {
	out, err := s.api.DescribeTable(ctx, &ddb.DescribeTableInput{TableName: &table})
	if err != nil {
		return driver.Schema{}, err
	}
	have := driver.Schema{Table: table}
	for _, k := range out.Table.KeySchema {
		if k.KeyType == types.KeyTypeHash {
			have.Primary = aws.ToString(k.AttributeName)
		} else {
			have.Secondary = aws.ToString(k.AttributeName)
		}
	}
	return have, nil
}

// ListTables implements driver.Store. The API has no filter, so all names are read.
func (s *Store) ListTables(ctx context.Context, prefix string) ([]string, error) {
	var names []string
	pages := ddb.NewListTablesPaginator(s.api, &ddb.ListTablesInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, n := range page.TableNames {
			if strings.HasPrefix(n, prefix) {
				names = append(names, n)
			}
		}
	}
	return names, nil
}

// DeleteTable implements driver.Store. A table that is being made or changed is waited for, as the API removes none
// before.
func (s *Store) DeleteTable(ctx context.Context, table string) error {
	_, err := s.api.DeleteTable(ctx, &ddb.DeleteTableInput{TableName: &table})
	var busy *types.ResourceInUseException
	if errors.As(err, &busy) {
		err = s.deleteBusy(ctx, table)
	}
	if err != nil {
		return err
	}
	w := ddb.NewTableNotExistsWaiter(s.api, func(o *ddb.TableNotExistsWaiterOptions) {
		o.MinDelay, o.MaxDelay = 50*time.Millisecond, 5*time.Second
	})
	if err := w.Wait(ctx, &ddb.DescribeTableInput{TableName: &table}, s.timeout); err != nil {
		return fmt.Errorf("wait for table %s to be gone: %w", table, err)
	}
	return nil
}

func (s *Store) deleteBusy(ctx context.Context, table string) error {
	have, err := s.api.DescribeTable(ctx, &ddb.DescribeTableInput{TableName: &table})
	if err != nil {
		return err
	}
	if have.Table.TableStatus == types.TableStatusDeleting {
		return nil // by somebody else
	}
	if err := s.waitActive(ctx, table); err != nil {
		return err
	}
	_, err = s.api.DeleteTable(ctx, &ddb.DeleteTableInput{TableName: &table})
	return err
}

// ClearTable implements driver.Store: keys are read page by page and deleted in batches, so that the table and what
// refers to it stay.
func (s *Store) ClearTable(ctx context.Context, t driver.Schema) (int64, error) {
	names := map[string]string{"#p": t.Primary}
	projection := "#p"
	if t.Secondary != "" {
		names["#s"], projection = t.Secondary, "#p, #s"
	}
	pages := ddb.NewScanPaginator(s.api, &ddb.ScanInput{
		TableName: &t.Table, ProjectionExpression: &projection, ExpressionAttributeNames: names, ConsistentRead: aws.Bool(true),
	})
	var removed int64
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return removed, err
		}
		for len(page.Items) > 0 {
			n := min(batchItems, len(page.Items))
			if err := s.deleteBatch(ctx, t.Table, page.Items[:n]); err != nil {
				return removed, err
			}
			removed += int64(n)
			page.Items = page.Items[n:]
		}
	}
	return removed, nil
}

// deleteBatch deletes up to batchItems items; those that the store had no capacity for are sent again, with pauses.
func (s *Store) deleteBatch(ctx context.Context, table string, keys []map[string]types.AttributeValue) error {
	writes := make([]types.WriteRequest, len(keys))
	for i, k := range keys {
		writes[i] = types.WriteRequest{DeleteRequest: &types.DeleteRequest{Key: k}}
	}
	pause := 50 * time.Millisecond
	for {
		out, err := s.api.BatchWriteItem(ctx, &ddb.BatchWriteItemInput{RequestItems: map[string][]types.WriteRequest{table: writes}})
		if err != nil {
			return err
		}
		writes = out.UnprocessedItems[table]
		if len(writes) == 0 {
			return nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
		pause = min(2*pause, 5*time.Second)
	}
}

// Put implements driver.Store.
func (s *Store) Put(ctx context.Context, table string, item driver.Item) error {
	m, err := encodeItem(item)
	if err != nil {
		return err
	}
	_, err = s.api.PutItem(ctx, &ddb.PutItemInput{TableName: &table, Item: m})
	return err
}

// Get implements driver.Store.
func (s *Store) Get(ctx context.Context, table string, keys []driver.Key) (driver.Item, error) {
	out, err := s.api.GetItem(ctx, &ddb.GetItemInput{TableName: &table, Key: encodeKeys(keys), ConsistentRead: aws.Bool(true)})
	if err != nil {
		return nil, err
	}
	if len(out.Item) == 0 {
		return nil, driver.ErrNoItem
	}
	return decodeItem(out.Item)
}

// Update implements driver.Store.
func (s *Store) Update(ctx context.Context, table string, keys []driver.Key, set driver.Item) error {
	names := make(map[string]string, len(set))
	values := make(map[string]types.AttributeValue, len(set))
	var parts []string
	for name, v := range set {
		value, err := encode(v)
		if err != nil {
			return fmt.Errorf("attribute %s: %w", name, err)
		}
		n := len(parts)
		names[fmt.Sprintf("#n%d", n)] = name
		values[fmt.Sprintf(":v%d", n)] = value
		parts = append(parts, fmt.Sprintf("#n%d = :v%d", n, n))
	}
	_, err := s.api.UpdateItem(ctx, &ddb.UpdateItemInput{
		TableName: &table, Key: encodeKeys(keys), UpdateExpression: aws.String("SET " + strings.Join(parts, ", ")),
		ExpressionAttributeNames: names, ExpressionAttributeValues: values,
	})
	return err
}

// Delete implements driver.Store.
func (s *Store) Delete(ctx context.Context, table string, keys []driver.Key) error {
	_, err := s.api.DeleteItem(ctx, &ddb.DeleteItemInput{TableName: &table, Key: encodeKeys(keys)})
	return err
}

// Query implements driver.Store.
func (s *Store) Query(ctx context.Context, table string, primary driver.Key, token string, limit int) ([]driver.Item, string, error) {
	start, err := decodeToken(token)
	if err != nil {
		return nil, "", err
	}
	in := &ddb.QueryInput{
		TableName:                 &table,
		KeyConditionExpression:    aws.String("#p = :p"),
		ExpressionAttributeNames:  map[string]string{"#p": primary.Name},
		ExpressionAttributeValues: map[string]types.AttributeValue{":p": &types.AttributeValueMemberS{Value: primary.Value}},
		ExclusiveStartKey:         start,
		ConsistentRead:            aws.Bool(true),
	}
	var items []driver.Item
	// A page may end before the limit, at 1 MiB of data.
	for {
		in.Limit = aws.Int32(int32(limit - len(items)))
		out, err := s.api.Query(ctx, in)
		if err != nil {
			return nil, "", err
		}
		for _, m := range out.Items {
			item, err := decodeItem(m)
			if err != nil {
				return nil, "", err
			}
			items = append(items, item)
		}
		if len(out.LastEvaluatedKey) == 0 {
			return items, "", nil
		}
		if len(items) >= limit {
			next, err := encodeToken(out.LastEvaluatedKey)
			return items, next, err
		}
		in.ExclusiveStartKey = out.LastEvaluatedKey
	}
}

// encodeToken writes the key to continue after; keys are strings.
func encodeToken(key map[string]types.AttributeValue) (string, error) {
	plain := make(map[string]string, len(key))
	for name, v := range key {
		text, ok := v.(*types.AttributeValueMemberS)
		if !ok {
			return "", fmt.Errorf("key attribute %s is not a string", name)
		}
		plain[name] = text.Value
	}
	raw, err := json.Marshal(plain)
	return base64.RawURLEncoding.EncodeToString(raw), err
}

var errToken = errors.New("the page token is none that this store gave")

func decodeToken(token string) (map[string]types.AttributeValue, error) {
	if token == "" {
		return nil, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return nil, errToken
	}
	var plain map[string]string
	if err := json.Unmarshal(raw, &plain); err != nil || len(plain) == 0 {
		return nil, errToken
	}
	key := make(map[string]types.AttributeValue, len(plain))
	for name, v := range plain {
		key[name] = &types.AttributeValueMemberS{Value: v}
	}
	return key, nil
}

// ErrorCode implements driver.Store.
func (s *Store) ErrorCode(err error) codes.Code {
	switch {
	case err == nil:
		return codes.OK
	case errors.Is(err, context.Canceled):
		return codes.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return codes.DeadlineExceeded
	case errors.Is(err, driver.ErrNoItem):
		return codes.NotFound
	case errors.Is(err, errToken), errors.Is(err, errValue):
		return codes.InvalidArgument
	}
	var answer smithy.APIError
	if errors.As(err, &answer) {
		switch answer.ErrorCode() {
		case "ResourceNotFoundException", "TableNotFoundException":
			return codes.NotFound
		case "ResourceInUseException":
			// Creating a table that exists, and removing one that is being made, answer the same name.
			if strings.Contains(err.Error(), "DeleteTable") {
				return codes.FailedPrecondition
			}
			return codes.AlreadyExists
		case "TableAlreadyExistsException":
			return codes.AlreadyExists
		case "ValidationException", "SerializationException", "ItemCollectionSizeLimitExceededException":
			return codes.InvalidArgument
		case "AccessDeniedException":
			return codes.PermissionDenied
		case "UnrecognizedClientException", "InvalidSignatureException", "MissingAuthenticationTokenException", "ExpiredTokenException", "IncompleteSignatureException":
			return codes.Unauthenticated
		case "ProvisionedThroughputExceededException", "ThrottlingException", "RequestLimitExceeded", "LimitExceededException", "Throttling":
			return codes.ResourceExhausted
		case "InternalServerError", "ServiceUnavailable", "InternalFailure":
			return codes.Unavailable
		case "UnknownOperationException":
			return codes.Unimplemented
		}
	}
	var network net.Error
	var request *url.Error
	if errors.As(err, &network) || errors.As(err, &request) {
		return codes.Unavailable
	}
	return codes.Unknown
}

// Close implements driver.Store.
func (s *Store) Close() error {
	s.close()
	return nil
}
