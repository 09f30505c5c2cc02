package deployer

import (
	"context"
	"errors"
	"maps"
	"regexp"
	"slices"
	"strings"

	deployerv1 "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// Settings of deployments on AWS, by the names of SeBS's configuration.
const (
	settingRole       = "lambda-role"
	settingURL        = "use-function-url"
	settingURLAuth    = "function-url-auth-type"
	settingColdStart  = "cold-start-method"
	settingRegistry   = "docker-registry"
	settingUser       = "docker-username"
	settingRepository = "container_repository"
)

// Attributes of an HTTP trigger on AWS that follow from the settings.
const (
	attributeImplementation = "implementation"
	attributeAuth           = "auth_type"
)

// setting describes what a setting may be.
type setting struct {
	// values lists what is allowed; empty allows what matches.
	values []string
	// shape is what the value must match, and says describes it to a person.
	shape *regexp.Regexp
	says  string
}

// settingsOf returns the settings that deployments of a platform have.
func settingsOf(platform string) map[string]setting {
	if platform != "aws" {
		return nil
	}
	return map[string]setting{
		settingRole: {
			shape: regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]+$`),
			says:  "the ARN of a role, such as arn:aws:iam::123456789012:role/benchmarks",
		},
		settingURL:       {values: []string{"true", "false"}},
		settingURLAuth:   {values: []string{"NONE", "AWS_IAM"}},
		settingColdStart: {values: []string{"environment", "version"}},
		settingRegistry: {
			shape: regexp.MustCompile(`^[A-Za-z0-9.-]+(:[0-9]+)?(/[A-Za-z0-9._/-]+)?$`),
			says:  "the host of a registry, such as registry.example.org:5000",
		},
		settingUser: {shape: regexp.MustCompile(`^\S+$`), says: "a name without blanks"},
		settingRepository: {
			shape: regexp.MustCompile(`^[a-z0-9]+([._/-]+[a-z0-9]+)*$`),
			says:  "the name of a repository in lower case, such as sebs-benchmarks",
		},
	}
}

// checkSettings refuses settings that the platform does not have, and values that it would not take. An empty value
// stands for the platform's default.
func checkSettings(platform string, settings map[string]string) error {
	known := settingsOf(platform)
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		field := "settings." + name
		rule, ok := known[name]
		switch value := settings[name]; {
		case !ok && namesSecret(name):
			problems = append(problems, errs.Field(field, "would be a secret; put it into the services' credentials, never into a deployment"))
		case !ok && len(known) == 0:
			problems = append(problems, errs.Field(field, "is no setting of platform %s, which has none", platform))
		case !ok:
			problems = append(problems, errs.Field(field, "is no setting of platform %s; it has %s", platform, strings.Join(slices.Sorted(maps.Keys(known)), ", ")))
		case value == "":
		case len(rule.values) > 0 && !slices.Contains(rule.values, value):
			problems = append(problems, errs.Field(field, "is %q; use %s", value, strings.Join(rule.values, " or ")))
		case rule.shape != nil && !rule.shape.MatchString(value):
			problems = append(problems, errs.Field(field, "is %q; give %s", value, rule.says))
		}
	}
	return errs.Fields(problems...)
}

// namesSecret tells that a name looks like that of a secret.
func namesSecret(name string) bool {
	lower := strings.ToLower(name)
	return slices.ContainsFunc([]string{"secret", "key", "password", "token", "credential"}, func(word string) bool {
		return strings.Contains(lower, word)
	})
}

// checkBuckets refuses buckets without a role or a name.
func checkBuckets(buckets []*typev1.BucketBinding) error {
	var problems []error
	seen := make(map[typev1.BucketRole]bool)
	for _, binding := range buckets {
		switch {
		case !slices.Contains(roles(), binding.GetRole()):
			problems = append(problems, errs.Field("buckets", "role of bucket %q must be deployment, benchmarks or experiments", binding.GetBucket()))
		case !idPattern.MatchString(binding.GetBucket()):
			problems = append(problems, errs.Field("buckets", "%q is no bucket's name", binding.GetBucket()))
		case seen[binding.GetRole()]:
			problems = append(problems, errs.Field("buckets", "role %s has two buckets; give one", strings.ToLower(strings.TrimPrefix(binding.GetRole().String(), "BUCKET_ROLE_"))))
		}
		seen[binding.GetRole()] = true
	}
	return errs.Fields(problems...)
}

// merge lays settings and buckets over those of a record. An empty setting goes back to the platform's default. It
// answers whether anything changed.
func merge(record *typev1.Deployment, settings map[string]string, buckets []*typev1.BucketBinding) bool {
	changed := false
	for name, value := range settings {
		have, there := record.GetSettings()[name]
		switch {
		case value == "" && there:
			delete(record.Settings, name)
		case value == "" || there && have == value:
			continue
		default:
			if record.Settings == nil {
				record.Settings = make(map[string]string)
			}
			record.Settings[name] = value
		}
		changed = true
	}
	for _, binding := range buckets {
		if bucketOf(record, binding.GetRole()) != binding.GetBucket() {
			bind(record, binding.GetRole(), binding.GetBucket())
			changed = true
		}
	}
	return changed
}

// functionBuckets returns the buckets that a deployment's functions work with: their data, and what experiments leave
// where the deployment names a bucket for it.
func functionBuckets(deployment *typev1.Deployment) []string {
	var buckets []string
	for _, binding := range deployment.GetBuckets() {
		// Only the suite itself puts code into the bucket of the role DEPLOYMENT.
		if binding.GetRole() != typev1.BucketRole_BUCKET_ROLE_DEPLOYMENT && !slices.Contains(buckets, binding.GetBucket()) {
			buckets = append(buckets, binding.GetBucket())
		}
	}
	return buckets
}

// tablePrefix is what the names of the deployment's tables start with; empty for a function that uses none.
func tablePrefix(name deploymentName, uses stores) string {
	if !uses.tables {
		return ""
	}
	return "sebs-benchmarks-" + name.ID + "-"
}

// wantedAttributes returns the attributes that a trigger has by the deployment's settings, as far as these decide them.
func wantedAttributes(platform string, kind driver.TriggerType, settings map[string]string) map[string]string {
	if platform != "aws" || kind != driver.TriggerHTTP {
		return nil
	}
	want := map[string]string{attributeImplementation: "function_url", attributeAuth: "NONE"}
	if settings[settingURL] == "false" {
		want[attributeImplementation] = "api_gateway"
	}
	if settings[settingURLAuth] == "AWS_IAM" {
		want[attributeAuth] = "AWS_IAM"
	}
	return want
}

// outdated tells that a trigger on the platform is not as the settings ask for now.
func outdated(platform string, settings map[string]string, actual *driver.Trigger) bool {
	for name, value := range wantedAttributes(platform, actual.Type, settings) {
		if have, known := actual.Attributes[name]; known && have != value {
			return true
		}
	}
	return false
}

// checkDeployment refuses what is wrong with a request for a deployment.
func checkDeployment(platform string, req *deployerv1.CreateDeploymentRequest) error {
	return errors.Join(checkSettings(platform, req.GetSettings()), checkBuckets(req.GetBuckets()), checkID(platform, req))
}

// awsID is what can stand in the names of buckets (lower case, no dots), queues, roles and repositories of AWS alike. The
// longest beginning of a bucket's name leaves 46 of 63 characters.
var awsID = regexp.MustCompile(`^[a-z0-9](?:[a-z0-9-]{0,44}[a-z0-9])?$`)

// checkID refuses an id, and a prefix of one, after which the platform could not name what the deployment needs.
func checkID(platform string, req *deployerv1.CreateDeploymentRequest) error {
	if platform != "aws" {
		return nil
	}
	var problems []error
	if id := req.GetResourcesId(); id != "" && !awsID.MatchString(id) {
		problems = append(problems, errs.Field("resources_id",
			"is %q; buckets, queues and roles of AWS are named after it, so give up to 46 lower-case letters, digits and hyphens", id))
	}
	// A new id has a hyphen and eight digits behind the prefix.
	if prefix := req.GetResourcePrefix(); prefix != "" && !awsID.MatchString(prefix+"-00000000") {
		problems = append(problems, errs.Field("resource_prefix",
			"is %q; buckets, queues and roles of AWS are named after it, so give up to 37 lower-case letters, digits and hyphens", prefix))
	}
	return errs.Fields(problems...)
}

// need is a thing that a function needs beside itself.
type need struct{ kind, name, detail string }

// neededBy returns what the platform's driver makes for a function beside the function itself and its triggers.
func neededBy(name deploymentName, settings map[string]string, function string, variant typev1.SystemVariant) []need {
	if name.Platform != "aws" {
		return nil
	}
	var needs []need
	if settings[settingRole] == "" {
		needs = append(needs, need{"role", "sebs-lambda-role-" + name.ID, "what the functions of the deployment may do"})
	}
	if variant == typev1.SystemVariant_SYSTEM_VARIANT_CONTAINER && settings[settingRegistry] == "" {
		repository := settings[settingRepository]
		if repository == "" {
			repository = "sebs-benchmarks-" + name.ID
		}
		needs = append(needs, need{"repository", repository, "container images"})
	}
	return append(needs, need{"log-group", "/aws/lambda/" + function, "logs of the function"})
}

// adjust stores a deployment's settings and buckets, where they are new.
func (d *Deployer) adjust(ctx context.Context, name deploymentName, record *typev1.Deployment, change func(*typev1.Deployment) bool) (*typev1.Deployment, error) {
	if !change(record) {
		return record, nil
	}
	return d.changeDeployment(ctx, name, func(current *typev1.Deployment) error {
		change(current)
		return nil
	})
}
