package sebsformat

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/sebs-suite/sebs/internal/secret"
)

// AWSConfig is deployment.aws.
type AWSConfig struct {
	// SessionToken belongs to temporary keys; SeBS has no place for it.
	AccessKey, SecretKey, SessionToken secret.String

	LambdaRole string
	// UseFunctionURL is false for an API Gateway HTTP API.
	UseFunctionURL      bool
	FunctionURLAuthType string
	HTTPAPIs            map[string]any
	FunctionURLs        map[string]any
	Docker              *DockerRegistry
	ContainerRepository string
	// Settings are what the file says of a deployment's settings, by their names; what it leaves out is not in it.
	Settings map[string]string
}

// DockerRegistry is a container registry with its log-in.
type DockerRegistry struct {
	Registry, Username string
	Password           secret.String
}

// AzureConfig is deployment.azure.
type AzureConfig struct {
	AppID, Tenant, Password secret.String
	ResourceGroup           string
	StorageAccounts         []AzureAccount
	DataStorageAccount      *AzureAccount
	CosmosDB                *CosmosDBAccount
}

// AzureAccount is a storage account.
type AzureAccount struct {
	Name             string
	ConnectionString secret.String
}

// CosmosDBAccount is a CosmosDB account.
type CosmosDBAccount struct {
	Name, URL  string
	Credential secret.String
}

// GCPConfig is deployment.gcp.
type GCPConfig struct {
	ProjectName string
	// CredentialsFile is the path of a service account's key file.
	CredentialsFile string
	ContainerRepo   string
	FunctionGen1    GCPScaling
	FunctionGen2    *GCPService
	Container       *GCPService
}

// GCPScaling bounds the number of instances.
type GCPScaling struct {
	MinInstances, MaxInstances int
}

// GCPService configures second-generation functions and Cloud Run.
type GCPService struct {
	GCPScaling
	VCPUs                                            int
	GCPConcurrency, WorkerConcurrency, WorkerThreads int
	CPUBoost, CPUThrottle                            bool
	// Environment is gen1 or gen2; Cloud Run only.
	Environment string
}

// OpenWhiskConfig is deployment.openwhisk.
type OpenWhiskConfig struct {
	ShutdownStorage, RemoveCluster, BypassSecurity, ExperimentalManifest bool
	WskExec                                                              string
	DockerHubRepository                                                  string
	DockerRegistry                                                       *DockerRegistry
	Storage                                                              *SelfHostedStorage
}

// LocalConfig is deployment.local.
type LocalConfig struct {
	Storage        *SelfHostedStorage
	AllocatedPorts []int
}

// SelfHostedStorage is the storage block of local and openwhisk, and the input of `storage start`.
type SelfHostedStorage struct {
	MinIO    *MinIOConfig
	ScyllaDB *ScyllaDBConfig
}

// MinIOConfig is storage.object.minio.
type MinIOConfig struct {
	Address              string
	MappedPort           int
	AccessKey, SecretKey secret.String
	InstanceID           string
	InputBuckets         []string
	OutputBuckets        []string
	Version, DataVolume  string
	RemoveContainers     bool
}

// ScyllaDBConfig is storage.nosql.scylladb.
type ScyllaDBConfig struct {
	Address                    string
	MappedPort, AlternatorPort int
	AccessKey, SecretKey       secret.String
	InstanceID, Region         string
	CPUs                       int
	// MemoryMB is a number or a string in files.
	MemoryMB            string
	Version, DataVolume string
	RemoveContainers    bool
}

func (c *UserConfig) readDeployment(d *object, region string) {
	block := d.object(c.Platform)
	d.ignore(platforms...)
	d.warnUnknown()
	if block == nil {
		return
	}
	if c.Platform == "aws" && region != "" && !block.has("region") {
		c.Region = region
	} else if c.Platform != "local" && c.Platform != "openwhisk" {
		c.Region = block.required("region", regionRemedy(c.Platform))
	} else {
		c.Region = block.text("region", "")
	}
	resources := block.object("resources")
	if resources != nil {
		c.ResourcesID = resources.text("resources_id", "")
		c.Buckets = resources.textMap("storage_buckets")
		for _, role := range bucketRoles {
			if name := resources.text(role, ""); name != "" {
				if c.Buckets == nil {
					c.Buckets = make(map[string]string)
				}
				c.Buckets[role] = name
			}
		}
	} else {
		resources = newObject(join(block.path, "resources"), map[string]any{}, block.problems)
	}
	switch c.Platform {
	case "aws":
		c.AWS = readAWS(block, resources)
	case "azure":
		c.Azure = readAzure(block, resources)
	case "gcp":
		c.GCP = readGCP(block, resources)
	case "openwhisk":
		c.OpenWhisk = readOpenWhisk(block)
	case "local":
		c.Local = readLocal(block, resources)
	}
	resources.warnUnknown()
	block.warnUnknown()
}

func regionRemedy(platform string) string {
	example := map[string]string{"aws": "us-east-1", "azure": "westeurope", "gcp": "europe-west1"}[platform]
	return fmt.Sprintf("add the region to work in, such as %q", example)
}

func (o *object) secret(key string) secret.String { return secret.New(o.text(key, "")) }

func readAWS(block, resources *object) *AWSConfig {
	c := &AWSConfig{
		LambdaRole:     resources.text("lambda-role", ""),
		UseFunctionURL: resources.boolean("use-function-url", true), FunctionURLAuthType: resources.choice("function-url-auth-type", "NONE", "NONE", "AWS_IAM"),
		HTTPAPIs: resources.tree("http-apis"), FunctionURLs: resources.tree("function-urls"),
		ContainerRepository: resources.text("container_repository", ""),
	}
	if credentials := block.object("credentials"); credentials != nil {
		c.AccessKey, c.SecretKey = credentials.secret("access_key"), credentials.secret("secret_key")
		c.SessionToken = credentials.secret("session_token")
		credentials.ignore("account_id")
		credentials.warnUnknown()
		if c.AccessKey.Empty() != c.SecretKey.Empty() {
			credentials.problems.add(credentials.path, "has only one of access_key and secret_key; give both, or none to use the environment")
		}
	}
	// SeBS's sample has the role one level up, where SeBS itself does not look.
	if role := block.text("lambda-role", ""); c.LambdaRole == "" {
		c.LambdaRole = role
	}
	if docker := resources.object("docker"); docker != nil {
		c.Docker = readRegistry(docker)
		if c.ContainerRepository == "" {
			resources.problems.add(join(resources.path, "container_repository"), "is missing; a docker block needs the repository's name")
		}
	}
	c.Settings = c.settings(resources)
	return c
}

// settings gathers what a deployment keeps. Where SeBS has a default the file's silence leaves a deployment as it is.
func (c *AWSConfig) settings(resources *object) map[string]string {
	settings := make(map[string]string)
	given := func(name, value string) {
		if value != "" {
			settings[name] = value
		}
	}
	given("lambda-role", c.LambdaRole)
	if resources.has("use-function-url") {
		settings["use-function-url"] = strconv.FormatBool(c.UseFunctionURL)
	}
	if resources.has("function-url-auth-type") {
		settings["function-url-auth-type"] = c.FunctionURLAuthType
	}
	given("cold-start-method", resources.choice("cold-start-method", "", "environment", "version"))
	given("container_repository", c.ContainerRepository)
	if c.Docker != nil {
		given("docker-registry", c.Docker.Registry)
		given("docker-username", c.Docker.Username)
	}
	return settings
}

func readRegistry(o *object) *DockerRegistry {
	r := &DockerRegistry{Registry: o.text("registry", ""), Username: o.text("username", ""), Password: o.secret("password")}
	o.warnUnknown()
	return r
}

func readAzure(block, resources *object) *AzureConfig {
	c := &AzureConfig{ResourceGroup: resources.text("resource_group", "")}
	if credentials := block.object("credentials"); credentials != nil {
		// SeBS's documentation spells appID, its code appId.
		c.AppID, c.Tenant, c.Password = credentials.secret("appId"), credentials.secret("tenant"), credentials.secret("password")
		if other := credentials.secret("appID"); c.AppID.Empty() {
			c.AppID = other
		}
		credentials.ignore("subscription_id")
		credentials.warnUnknown()
	}
	for _, account := range resources.objects("storage_accounts") {
		c.StorageAccounts = append(c.StorageAccounts, *readAzureAccount(account))
	}
	if account := resources.object("data_storage_account"); account != nil {
		c.DataStorageAccount = readAzureAccount(account)
	}
	if account := resources.object("cosmosdb_account"); account != nil {
		c.CosmosDB = &CosmosDBAccount{Name: account.text("account_name", ""), URL: account.text("url", ""), Credential: account.secret("credential")}
		account.warnUnknown()
	}
	return c
}

func readAzureAccount(o *object) *AzureAccount {
	a := &AzureAccount{Name: o.required("account_name", "add the storage account's name"), ConnectionString: o.secret("connection_string")}
	o.warnUnknown()
	return a
}

func readGCP(block, resources *object) *GCPConfig {
	c := &GCPConfig{
		ProjectName: block.text("project_name", ""), ContainerRepo: resources.text("container_repository", ""),
		FunctionGen1: GCPScaling{MaxInstances: 20},
	}
	// Both forms are in use: a path, and an object with the path.
	if path, ok := block.fields["credentials"].(string); ok {
		block.ignore("credentials")
		c.CredentialsFile = path
	} else if credentials := block.object("credentials"); credentials != nil {
		c.CredentialsFile = credentials.text("credentials-json", "")
		credentials.ignore("project_id")
		credentials.warnUnknown()
	}
	if path := block.text("credentials-json", ""); c.CredentialsFile == "" {
		c.CredentialsFile = path
	}
	if configuration := block.object("configuration"); configuration != nil {
		if gen1 := configuration.object("function-gen1"); gen1 != nil {
			c.FunctionGen1 = readScaling(gen1)
			gen1.warnUnknown()
		}
		c.FunctionGen2 = readGCPService(configuration.object("function-gen2"), false)
		c.Container = readGCPService(configuration.object("container"), true)
		configuration.warnUnknown()
	}
	return c
}

func readScaling(o *object) GCPScaling {
	return GCPScaling{MinInstances: o.natural("min-instances", 0, 0), MaxInstances: o.natural("max-instances", 20, 1)}
}

func readGCPService(o *object, container bool) *GCPService {
	if o == nil {
		return nil
	}
	s := &GCPService{
		GCPScaling: readScaling(o), VCPUs: o.natural("vcpus", 1, 1), GCPConcurrency: o.natural("gcp-concurrency", 80, 1),
		WorkerConcurrency: o.natural("worker-concurrency", 1, 1), WorkerThreads: o.natural("worker-threads", 8, 1),
		CPUBoost: o.boolean("cpu-boost", false), CPUThrottle: o.boolean("cpu-throttle", true),
	}
	if container {
		s.Environment = o.choice("environment", "gen1", "gen1", "gen2")
	}
	o.warnUnknown()
	return s
}

func readOpenWhisk(block *object) *OpenWhiskConfig {
	c := &OpenWhiskConfig{
		ShutdownStorage: block.looseBoolean("shutdownStorage"), RemoveCluster: block.looseBoolean("removeCluster"),
		BypassSecurity: block.looseBoolean("wskBypassSecurity"), WskExec: block.text("wskExec", "wsk"),
		ExperimentalManifest: block.looseBoolean("experimentalManifest"), DockerHubRepository: block.text("dockerhubRepository", ""),
		Storage: readStorage(block.object("storage")),
	}
	if registry := block.object("docker_registry"); registry != nil {
		c.DockerRegistry = readRegistry(registry)
	}
	block.ignore("credentials")
	return c
}

func readLocal(block, resources *object) *LocalConfig {
	c := &LocalConfig{Storage: readStorage(block.object("storage"))}
	c.AllocatedPorts = block.integers("allocated_ports")
	if len(c.AllocatedPorts) == 0 {
		c.AllocatedPorts = resources.integers("allocated_ports")
	}
	// The command line of SeBS adds the path; result files keep the stores under resources.
	block.ignore("path", "credentials")
	resources.ignore("storage", "nosql", "allocated_ports")
	return c
}

// ReadStorageConfig reads the input of `storage start` and of --storage-configuration: an object with the keys object and nosql.
func ReadStorageConfig(r io.Reader) (*SelfHostedStorage, []string, error) {
	raw, err := io.ReadAll(r)
	if err != nil {
		return nil, nil, fmt.Errorf("read storage configuration: %w", err)
	}
	fields, err := configTreeOf(raw)
	if err != nil {
		return nil, nil, err
	}
	found := &problems{}
	s := readStorage(newObject("", fields, found))
	return s, found.warnings, found.err()
}

func readStorage(o *object) *SelfHostedStorage {
	if o == nil {
		return nil
	}
	s := &SelfHostedStorage{}
	if object := o.object("object"); object != nil {
		object.choice("type", "minio", "minio")
		s.MinIO = readMinIO(object.object("minio"))
		object.warnUnknown()
	} else if o.has("address") || o.has("mapped_port") {
		// SeBS's sample has the fields of MinIO without the levels above them, where SeBS itself ignores them.
		s.MinIO = readMinIO(o)
		o.problems.warn("%s has the fields of MinIO without storage.object.minio; they were read as if they stood there", o.path)
		return s
	}
	if nosql := o.object("nosql"); nosql != nil {
		nosql.choice("type", "scylladb", "scylladb")
		s.ScyllaDB = readScyllaDB(nosql.object("scylladb"))
		nosql.warnUnknown()
	}
	o.warnUnknown()
	return s
}

func readMinIO(o *object) *MinIOConfig {
	if o == nil {
		return nil
	}
	c := &MinIOConfig{
		Address: o.text("address", ""), MappedPort: o.natural("mapped_port", -1, -1), AccessKey: o.secret("access_key"), SecretKey: o.secret("secret_key"),
		InstanceID: o.text("instance_id", ""), InputBuckets: o.texts("input_buckets"), OutputBuckets: o.texts("output_buckets"),
		Version: o.text("version", ""), DataVolume: o.text("data_volume", ""), RemoveContainers: o.boolean("remove_containers", false),
	}
	o.ignore("type")
	o.warnUnknown()
	return c
}

func readScyllaDB(o *object) *ScyllaDBConfig {
	if o == nil {
		return nil
	}
	c := &ScyllaDBConfig{
		Address: o.text("address", ""), MappedPort: o.natural("mapped_port", -1, -1), AlternatorPort: o.natural("alternator_port", 8000, 1),
		AccessKey: secret.New(o.text("access_key", "None")), SecretKey: secret.New(o.text("secret_key", "None")),
		InstanceID: o.text("instance_id", ""), Region: o.text("region", "None"), CPUs: o.natural("cpus", -1, -1),
		MemoryMB: o.scalarText("memory", "-1"), Version: o.scalarText("version", ""), DataVolume: o.text("data_volume", ""),
		RemoveContainers: o.boolean("remove_containers", false),
	}
	if _, err := strconv.Atoi(strings.TrimSpace(c.MemoryMB)); err != nil {
		o.problems.add(join(o.path, "memory"), "is %q; give the memory in MB as a number", c.MemoryMB)
	}
	o.warnUnknown()
	return c
}
