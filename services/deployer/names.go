package deployer

import (
	"regexp"
	"slices"
	"strings"

	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// wildcard stands for any id in the parent of a listing.
const wildcard = "-"

var idPattern = regexp.MustCompile(`^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,138}[A-Za-z0-9])?$`)

// deploymentName is the resource name of a deployment, taken apart.
type deploymentName struct{ Platform, ID string }

func (n deploymentName) String() string { return "platforms/" + n.Platform + "/deployments/" + n.ID }

// key is where the record lies.
func (n deploymentName) key() string { return "deployments/" + n.Platform + "/" + n.ID }

// functionsPrefix is the prefix of the records of its functions.
func (n deploymentName) functionsPrefix() string { return "functions/" + n.Platform + "/" + n.ID + "/" }

func (n deploymentName) function(id string) functionName { return functionName{n, id} }

// functionName is the resource name of a function, taken apart.
type functionName struct {
	Deployment deploymentName
	ID         string
}

func (n functionName) String() string { return n.Deployment.String() + "/functions/" + n.ID }

func (n functionName) key() string { return n.Deployment.functionsPrefix() + n.ID }

func (n functionName) trigger(kind driver.TriggerType) string {
	return n.String() + "/triggers/" + string(kind)
}

// parse takes a resource name apart along a pattern such as
// "platforms/*/deployments/*" and returns what stands at the asterisks.
func parse(field, name, pattern string, wildcards bool) ([]string, error) {
	parts, shape := strings.Split(name, "/"), strings.Split(pattern, "/")
	var ids []string
	ok := len(parts) == len(shape)
	for i := 0; ok && i < len(shape); i++ {
		switch {
		case shape[i] != "*":
			ok = parts[i] == shape[i]
		case wildcards && parts[i] == wildcard:
			ids = append(ids, parts[i])
		default:
			ok = idPattern.MatchString(parts[i])
			ids = append(ids, parts[i])
		}
	}
	if !ok {
		return nil, errs.Fields(errs.Field(field, "must have the form %s, is %q", pattern, name))
	}
	return ids, nil
}

func parsePlatform(name string, wildcards bool) (string, error) {
	ids, err := parse("parent", name, "platforms/*", wildcards)
	if err != nil {
		return "", err
	}
	return ids[0], nil
}

func parseDeployment(field, name string, wildcards bool) (deploymentName, error) {
	ids, err := parse(field, name, "platforms/*/deployments/*", wildcards)
	if err != nil {
		return deploymentName{}, err
	}
	return deploymentName{Platform: ids[0], ID: ids[1]}, nil
}

func parseFunction(field, name string) (functionName, error) {
	ids, err := parse(field, name, "platforms/*/deployments/*/functions/*", false)
	if err != nil {
		return functionName{}, err
	}
	return deploymentName{Platform: ids[0], ID: ids[1]}.function(ids[2]), nil
}

func parseTrigger(field, name string) (functionName, driver.TriggerType, error) {
	ids, err := parse(field, name, "platforms/*/deployments/*/functions/*/triggers/*", false)
	if err != nil {
		return functionName{}, "", err
	}
	kind, err := triggerType(field, ids[3])
	return deploymentName{Platform: ids[0], ID: ids[1]}.function(ids[2]), kind, err
}

func checkPackage(field, name string) error {
	_, err := parse(field, name, "packages/*", false)
	return err
}

// triggerTypes lists the types in the order in which they are listed.
func triggerTypes() []driver.TriggerType {
	return []driver.TriggerType{driver.TriggerHTTP, driver.TriggerLibrary, driver.TriggerStorage}
}

// triggerType returns the type of that name in any case.
func triggerType(field, name string) (driver.TriggerType, error) {
	kind := driver.TriggerType(strings.ToLower(name))
	if !slices.Contains(triggerTypes(), kind) {
		return "", errs.Fields(errs.Field(field, "trigger type %q is not known; the types are http, library and storage", name))
	}
	return kind, nil
}

// roles lists the roles of buckets.
func roles() []typev1.BucketRole {
	return []typev1.BucketRole{
		typev1.BucketRole_BUCKET_ROLE_DEPLOYMENT,
		typev1.BucketRole_BUCKET_ROLE_BENCHMARKS,
		typev1.BucketRole_BUCKET_ROLE_EXPERIMENTS,
	}
}

// standardBucket is the name that the bucket of a role gets.
func standardBucket(role typev1.BucketRole, rid string) string {
	return "sebs-" + strings.ToLower(strings.TrimPrefix(role.String(), "BUCKET_ROLE_")) + "-" + rid
}
