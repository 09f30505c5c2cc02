package storage

import (
	"encoding/base64"
	"regexp"
	"strings"

	"github.com/sebs-suite/sebs/internal/errs"

	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
)

var (
	platformName   = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)
	deploymentName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,46}$`)
)

// deployment is a parsed "platforms/{platform}/deployments/{rid}".
type deployment struct {
	platform, id string
}

func (d deployment) String() string { return "platforms/" + d.platform + "/deployments/" + d.id }

// record is the key of the deployment's record.
func (d deployment) record() string { return "deployments/" + d.platform + "/" + d.id }

func (d deployment) bucket(id string) string { return d.String() + "/buckets/" + id }
func (d deployment) table(id string) string  { return d.String() + "/tables/" + id }

// parsePlatform reads "platforms/{platform}".
func parsePlatform(field, name string) (string, error) {
	p, ok := strings.CutPrefix(name, "platforms/")
	if !ok || !platformName.MatchString(p) {
		return "", errs.Fields(errs.Field(field, "%q is not of the form platforms/{platform}", name))
	}
	return p, nil
}

// parseDeployment reads "platforms/{platform}/deployments/{rid}".
func parseDeployment(field, name string) (deployment, error) {
	parts := strings.Split(name, "/")
	if len(parts) != 4 || parts[0] != "platforms" || parts[2] != "deployments" || !platformName.MatchString(parts[1]) || !deploymentName.MatchString(parts[3]) {
		return deployment{}, errs.Fields(errs.Field(field, "%q is not of the form platforms/{platform}/deployments/{resource id}, the id of lower case letters, digits and dashes", name))
	}
	return deployment{platform: parts[1], id: parts[3]}, nil
}

// anyDeployment stands in a name where a request is about the platform's store and not about one deployment.
const anyDeployment = "-"

// parseStore reads the name of a deployment, or `platforms/{platform}/deployments/-` for the whole store of the platform.
func parseStore(field, name string) (deployment, error) {
	if parent, ok := strings.CutSuffix(name, "/deployments/"+anyDeployment); ok {
		p, err := parsePlatform(field, parent)
		return deployment{platform: p, id: anyDeployment}, err
	}
	return parseDeployment(field, name)
}

// ownerOf returns the deployment of a bucket in a store. Where a request did not name it, the naming rule tells.
func ownerOf(d deployment, bucket string) deployment {
	if d.id != anyDeployment {
		return d
	}
	for _, word := range roles {
		if id, ok := strings.CutPrefix(bucket, "sebs-"+word+"-"); ok && deploymentName.MatchString(id) {
			return deployment{platform: d.platform, id: id}
		}
	}
	return d
}

// parseChild reads "platforms/{platform}/deployments/{rid}/{collection}/{id}".
func parseChild(field, name, collection string) (deployment, string, error) {
	parent, id, ok := cutChild(name, collection)
	if !ok {
		return deployment{}, "", errs.Fields(errs.Field(field, "%q is not of the form platforms/{platform}/deployments/{resource id}/%s/{id}", name, collection))
	}
	d, err := parseDeployment(field, parent)
	return d, id, err
}

func cutChild(name, collection string) (parent, id string, ok bool) {
	i := strings.LastIndexByte(name, '/')
	if i < 0 || i == len(name)-1 {
		return "", "", false
	}
	parent, ok = strings.CutSuffix(name[:i], "/"+collection)
	return parent, name[i+1:], ok
}

// roles are the names of bucket roles as they stand in bucket names and SeBS files.
var roles = map[typev1.BucketRole]string{
	typev1.BucketRole_BUCKET_ROLE_DEPLOYMENT:  "deployment",
	typev1.BucketRole_BUCKET_ROLE_BENCHMARKS:  "benchmarks",
	typev1.BucketRole_BUCKET_ROLE_EXPERIMENTS: "experiments",
}

// benchmarksPrefix starts the name of the bucket that marks a deployment.
const benchmarksPrefix = "sebs-benchmarks-"

// tablePrefix starts the names of a deployment's tables.
func tablePrefix(rid string) string { return "sebs-benchmarks-" + rid + "-" }

// pageToken and afterToken turn the last key of a page into an opaque token and back.
func pageToken(after string) string {
	if after == "" {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString([]byte(after))
}

func afterToken(token string) (string, error) {
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return "", errs.Fields(errs.Field("page_token", "is none that this service gave; start again without one"))
	}
	return string(raw), nil
}

// pageSize applies the default and the limit of a page size field.
func pageSize(asked int32, byDefault int) int {
	switch {
	case asked <= 0:
		return byDefault
	case asked > 1000:
		return 1000
	}
	return int(asked)
}
