package storage

import (
	"context"
	"encoding/json"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sebs-suite/sebs/platform/nosql"

	storagev1 "github.com/sebs-suite/sebs/gen/go/sebs/storage/v1"
	"github.com/sebs-suite/sebs/internal/errs"
)

// Server translates between the API and the Service.
type Server struct {
	storagev1.UnimplementedStorageServiceServer
	service *Service
}

// NewServer makes the API of a service.
func NewServer(s *Service) *Server { return &Server{service: s} }

// Register makes a gRPC server answer the API.
func (s *Server) Register(r grpc.ServiceRegistrar) { storagev1.RegisterStorageServiceServer(r, s) }

// GetObjectStorage implements the RPC.
func (s *Server) GetObjectStorage(ctx context.Context, in *storagev1.GetObjectStorageRequest) (*storagev1.ObjectStorage, error) {
	d, err := parseDeployment("parent", in.GetParent())
	if err != nil {
		return nil, err
	}
	_, o, err := s.service.objects(ctx, d)
	if err != nil {
		return nil, err
	}
	replace := o.ReplaceExisting
	if in.ReplaceExisting != nil {
		replace = in.GetReplaceExisting()
	}
	return &storagev1.ObjectStorage{Driver: o.Driver, Endpoint: o.Endpoint, Region: o.Region, ReplaceExisting: replace, Embedded: o.Embedded}, nil
}

// GetTableStorage implements the RPC.
func (s *Server) GetTableStorage(ctx context.Context, in *storagev1.GetTableStorageRequest) (*storagev1.TableStorage, error) {
	d, err := parseDeployment("parent", in.GetParent())
	if err != nil {
		return nil, err
	}
	_, t, err := s.service.tables(ctx, d)
	if err != nil {
		return nil, err
	}
	return &storagev1.TableStorage{Driver: t.Driver, Endpoint: t.Endpoint, Region: t.Region, Embedded: t.Embedded}, nil
}

func bucketMessage(b Bucket) *storagev1.Bucket {
	m := &storagev1.Bucket{Name: b.deployment.bucket(b.Name), BucketId: b.Name, Role: b.role}
	if !b.Created.IsZero() {
		m.CreateTime = timestamppb.New(b.Created)
	}
	return m
}

// EnsureBucket implements the RPC.
func (s *Server) EnsureBucket(ctx context.Context, in *storagev1.EnsureBucketRequest) (*storagev1.Bucket, error) {
	d, err := parseDeployment("parent", in.GetParent())
	if err != nil {
		return nil, err
	}
	b, err := s.service.ensureBucket(ctx, d, in.GetRole())
	if err != nil {
		return nil, err
	}
	return bucketMessage(b), nil
}

// CreateBucket implements the RPC.
func (s *Server) CreateBucket(ctx context.Context, in *storagev1.CreateBucketRequest) (*storagev1.Bucket, error) {
	d, err := parseDeployment("parent", in.GetParent())
	if err != nil {
		return nil, err
	}
	b, err := s.service.createBucket(ctx, d, in.GetBucketId())
	if err != nil {
		return nil, err
	}
	return bucketMessage(b), nil
}

// GetBucket implements the RPC.
func (s *Server) GetBucket(ctx context.Context, in *storagev1.GetBucketRequest) (*storagev1.Bucket, error) {
	d, id, err := parseChild("name", in.GetName(), "buckets")
	if err != nil {
		return nil, err
	}
	b, err := s.service.getBucket(ctx, d, id)
	if err != nil {
		return nil, err
	}
	return bucketMessage(b), nil
}

// ListBuckets implements the RPC.
func (s *Server) ListBuckets(ctx context.Context, in *storagev1.ListBucketsRequest) (*storagev1.ListBucketsResponse, error) {
	d, err := parseStore("parent", in.GetParent())
	if err != nil {
		return nil, err
	}
	after, err := afterToken(in.GetPageToken())
	if err != nil {
		return nil, err
	}
	page, next, err := s.service.listBuckets(ctx, d, in.GetPrefix(), after, pageSize(in.GetPageSize(), 100))
	if err != nil {
		return nil, err
	}
	out := &storagev1.ListBucketsResponse{NextPageToken: pageToken(next)}
	for _, b := range page {
		out.Buckets = append(out.Buckets, bucketMessage(b))
	}
	return out, nil
}

// CleanBucket implements the RPC.
func (s *Server) CleanBucket(ctx context.Context, in *storagev1.CleanBucketRequest) (*storagev1.CleanBucketResponse, error) {
	d, id, err := parseChild("name", in.GetName(), "buckets")
	if err != nil {
		return nil, err
	}
	n, err := s.service.cleanBucket(ctx, d, id)
	if err != nil {
		return nil, err
	}
	return &storagev1.CleanBucketResponse{RemovedCount: n}, nil
}

// DeleteBucket implements the RPC.
func (s *Server) DeleteBucket(ctx context.Context, in *storagev1.DeleteBucketRequest) (*emptypb.Empty, error) {
	parent, id, ok := cutChild(in.GetName(), "buckets")
	if !ok {
		return nil, errs.Fields(errs.Field("name", "%q is not of the form platforms/{platform}/deployments/{resource id}/buckets/{id}", in.GetName()))
	}
	d, err := parseStore("name", parent)
	if err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, s.service.deleteBucket(ctx, d, id, in.GetForce())
}

// CleanupBuckets implements the RPC.
func (s *Server) CleanupBuckets(ctx context.Context, in *storagev1.CleanupBucketsRequest) (*storagev1.CleanupBucketsResponse, error) {
	d, err := parseDeployment("parent", in.GetParent())
	if err != nil {
		return nil, err
	}
	names, err := s.service.cleanupBuckets(ctx, d, in.GetDryRun())
	if err != nil {
		return nil, err
	}
	return &storagev1.CleanupBucketsResponse{Buckets: names}, nil
}

// CorrectBucketName implements the RPC.
func (s *Server) CorrectBucketName(ctx context.Context, in *storagev1.CorrectBucketNameRequest) (*storagev1.CorrectBucketNameResponse, error) {
	p, err := parsePlatform("parent", in.GetParent())
	if err != nil {
		return nil, err
	}
	_, o, err := s.service.objects(ctx, deployment{platform: p, id: anyDeployment})
	if err != nil {
		return nil, err
	}
	return &storagev1.CorrectBucketNameResponse{BucketId: o.Store.CorrectName(in.GetBucketId())}, nil
}

// FindDeployments implements the RPC.
func (s *Server) FindDeployments(ctx context.Context, in *storagev1.FindDeploymentsRequest) (*storagev1.FindDeploymentsResponse, error) {
	p, err := parsePlatform("parent", in.GetParent())
	if err != nil {
		return nil, err
	}
	ids, err := s.service.findDeployments(ctx, p, in.GetCredential())
	if err != nil {
		return nil, err
	}
	return &storagev1.FindDeploymentsResponse{ResourcesIds: ids}, nil
}

// AllocateBenchmarkData implements the RPC.
func (s *Server) AllocateBenchmarkData(ctx context.Context, in *storagev1.AllocateBenchmarkDataRequest) (*storagev1.BenchmarkData, error) {
	d, err := parseDeployment("parent", in.GetParent())
	if err != nil {
		return nil, err
	}
	b, inputs, outputs, err := s.service.benchmarkData(ctx, d, in.GetBenchmark(), int(in.GetInputCount()), int(in.GetOutputCount()))
	if err != nil {
		return nil, err
	}
	return &storagev1.BenchmarkData{Bucket: bucketMessage(b), InputPrefixes: inputs, OutputPrefixes: outputs}, nil
}

// GetFunctionEnvironment implements the RPC.
func (s *Server) GetFunctionEnvironment(ctx context.Context, in *storagev1.GetFunctionEnvironmentRequest) (*storagev1.FunctionEnvironment, error) {
	d, err := parseDeployment("parent", in.GetParent())
	if err != nil {
		return nil, err
	}
	vars, err := s.service.functionEnvironment(ctx, d, in.GetBenchmark(), in.GetStoreHost(), in.GetUsesObjects(), in.GetUsesTables())
	if err != nil {
		return nil, err
	}
	out := &storagev1.FunctionEnvironment{}
	for _, v := range vars {
		out.Variables = append(out.Variables, &storagev1.EnvironmentVariable{Name: v.name, Value: v.value, Secret: v.secret})
	}
	return out, nil
}

func tableMessage(t Table) *storagev1.Table {
	return &storagev1.Table{
		Name: t.deployment.table(t.Table), TableId: t.Table, Benchmark: t.benchmark, Created: t.created,
		Spec: &storagev1.TableSpec{LogicalName: t.logical, PrimaryKey: t.Primary, SecondaryKey: t.Secondary},
	}
}

// CreateBenchmarkTables implements the RPC.
func (s *Server) CreateBenchmarkTables(ctx context.Context, in *storagev1.CreateBenchmarkTablesRequest) (*storagev1.CreateBenchmarkTablesResponse, error) {
	d, err := parseDeployment("parent", in.GetParent())
	if err != nil {
		return nil, err
	}
	specs := make([]tableSpec, len(in.GetTables()))
	for i, t := range in.GetTables() {
		specs[i] = tableSpec{logical: t.GetLogicalName(), primary: t.GetPrimaryKey(), secondary: t.GetSecondaryKey()}
	}
	tables, err := s.service.createBenchmarkTables(ctx, d, in.GetBenchmark(), specs)
	if err != nil {
		return nil, err
	}
	out := &storagev1.CreateBenchmarkTablesResponse{}
	for _, t := range tables {
		out.Tables = append(out.Tables, tableMessage(t))
	}
	return out, nil
}

// CreateTable implements the RPC.
func (s *Server) CreateTable(ctx context.Context, in *storagev1.CreateTableRequest) (*storagev1.Table, error) {
	d, err := parseDeployment("parent", in.GetParent())
	if err != nil {
		return nil, err
	}
	t, err := s.service.createTable(ctx, d, in.GetBenchmark(), in.GetSpec().GetLogicalName(), in.GetSpec().GetPrimaryKey(), in.GetSpec().GetSecondaryKey())
	if err != nil {
		return nil, err
	}
	return tableMessage(t), nil
}

// GetTable implements the RPC.
func (s *Server) GetTable(ctx context.Context, in *storagev1.GetTableRequest) (*storagev1.Table, error) {
	d, id, err := parseChild("name", in.GetName(), "tables")
	if err != nil {
		return nil, err
	}
	t, err := s.service.getTable(ctx, d, id)
	if err != nil {
		return nil, err
	}
	return tableMessage(t), nil
}

// ListTables implements the RPC.
func (s *Server) ListTables(ctx context.Context, in *storagev1.ListTablesRequest) (*storagev1.ListTablesResponse, error) {
	d, err := parseDeployment("parent", in.GetParent())
	if err != nil {
		return nil, err
	}
	after, err := afterToken(in.GetPageToken())
	if err != nil {
		return nil, err
	}
	tables, err := s.service.listTables(ctx, d, in.GetBenchmark())
	if err != nil {
		return nil, err
	}
	out := &storagev1.ListTablesResponse{}
	limit := pageSize(in.GetPageSize(), 100)
	for _, t := range tables {
		if t.Table <= after {
			continue
		}
		if len(out.GetTables()) == limit {
			out.NextPageToken = pageToken(out.GetTables()[limit-1].GetTableId())
			break
		}
		out.Tables = append(out.Tables, tableMessage(t))
	}
	return out, nil
}

// itemTable opens the table that an item request names.
func (s *Server) itemTable(ctx context.Context, name string) (*nosql.Store, string, error) {
	d, id, err := parseChild("table", name, "tables")
	if err != nil {
		return nil, "", err
	}
	store, err := s.service.tableStore(ctx, d, id)
	return store, id, err
}

func keysOf(primary, secondary *storagev1.ItemKey) []nosql.Key {
	keys := []nosql.Key{{Name: primary.GetName(), Value: primary.GetValue()}}
	if secondary != nil {
		keys = append(keys, nosql.Key{Name: secondary.GetName(), Value: secondary.GetValue()})
	}
	return keys
}

// WriteItem implements the RPC.
func (s *Server) WriteItem(ctx context.Context, in *storagev1.WriteItemRequest) (*storagev1.WriteItemResponse, error) {
	store, table, err := s.itemTable(ctx, in.GetTable())
	if err != nil {
		return nil, err
	}
	if err := store.Put(ctx, table, keysOf(in.GetPrimaryKey(), in.GetSecondaryKey()), in.GetData().AsMap()); err != nil {
		return nil, err
	}
	return &storagev1.WriteItemResponse{}, nil
}

// GetItem implements the RPC.
func (s *Server) GetItem(ctx context.Context, in *storagev1.GetItemRequest) (*storagev1.GetItemResponse, error) {
	store, table, err := s.itemTable(ctx, in.GetTable())
	if err != nil {
		return nil, err
	}
	item, err := store.Get(ctx, table, keysOf(in.GetPrimaryKey(), in.GetSecondaryKey()))
	if err != nil {
		return nil, err
	}
	m, err := structOf(item)
	if err != nil {
		return nil, err
	}
	return &storagev1.GetItemResponse{Item: m}, nil
}

// QueryItems implements the RPC.
func (s *Server) QueryItems(ctx context.Context, in *storagev1.QueryItemsRequest) (*storagev1.QueryItemsResponse, error) {
	store, table, err := s.itemTable(ctx, in.GetTable())
	if err != nil {
		return nil, err
	}
	items, next, err := store.Query(ctx, table, keysOf(in.GetPrimaryKey(), nil)[0], in.GetPageToken(), pageSize(in.GetPageSize(), 100))
	if err != nil {
		return nil, err
	}
	out := &storagev1.QueryItemsResponse{NextPageToken: next}
	for _, item := range items {
		m, err := structOf(item)
		if err != nil {
			return nil, err
		}
		out.Items = append(out.Items, m)
	}
	return out, nil
}

// ClearTable implements the RPC.
func (s *Server) ClearTable(ctx context.Context, in *storagev1.ClearTableRequest) (*storagev1.ClearTableResponse, error) {
	store, table, err := s.itemTableByName(ctx, in.GetName())
	if err != nil {
		return nil, err
	}
	n, err := store.ClearTable(ctx, table)
	if err != nil {
		return nil, err
	}
	return &storagev1.ClearTableResponse{RemovedCount: n}, nil
}

func (s *Server) itemTableByName(ctx context.Context, name string) (*nosql.Store, string, error) {
	d, id, err := parseChild("name", name, "tables")
	if err != nil {
		return nil, "", err
	}
	store, err := s.service.tableStore(ctx, d, id)
	return store, id, err
}

// DeleteTable implements the RPC.
func (s *Server) DeleteTable(ctx context.Context, in *storagev1.DeleteTableRequest) (*emptypb.Empty, error) {
	d, id, err := parseChild("name", in.GetName(), "tables")
	if err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, s.service.deleteTable(ctx, d, id)
}

// CleanupTables implements the RPC.
func (s *Server) CleanupTables(ctx context.Context, in *storagev1.CleanupTablesRequest) (*storagev1.CleanupTablesResponse, error) {
	d, err := parseDeployment("parent", in.GetParent())
	if err != nil {
		return nil, err
	}
	names, err := s.service.cleanupTables(ctx, d, in.GetDryRun())
	if err != nil {
		return nil, err
	}
	return &storagev1.CleanupTablesResponse{Tables: names}, nil
}

// structOf turns an item into a message. Numbers become doubles; bytes become base64 text, as in JSON.
func structOf(item nosql.Item) (*structpb.Struct, error) {
	raw, err := json.Marshal(item)
	if err != nil {
		return nil, fmt.Errorf("encode item: %w", err)
	}
	m := &structpb.Struct{}
	if err := m.UnmarshalJSON(raw); err != nil {
		return nil, fmt.Errorf("encode item: %w", err)
	}
	return m, nil
}
