package aws

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// Tags of what the suite makes. All but the first belong to functions only.
const (
	// TagDeployment is the resource id, on everything.
	TagDeployment = "sebs:deployment"
	// TagBenchmark and TagDigest are the benchmark and the digest of the code.
	TagBenchmark = "sebs:benchmark"
	TagDigest    = "sebs:digest"
	// tagLabel starts the tags of labels.
	tagLabel = "sebs:label:"
	// tagRuntime is language, version and variant, which Lambda does not know of images and of C++.
	tagRuntime = "sebs:runtime"
	// tagColdStart is the way to enforce a cold start.
	tagColdStart = "sebs:cold-start"
	// tagAlias is there where calls go through an alias.
	tagAlias = "sebs:alias"
	// tagProvisioned is how many sandboxes are kept initialised.
	tagProvisioned = "sebs:provisioned"
	// tagSecrets are the names of the variables whose values are secret.
	tagSecrets = "sebs:secrets"
	// tagAPI is the id of the HTTP API in front of the function.
	tagAPI = "sebs:http-api"
	// tagBucket, tagPrefix and tagResults are the storage trigger.
	tagBucket  = "sebs:event-bucket"
	tagPrefix  = "sebs:event-prefix"
	tagResults = "sebs:results-prefix"
)

// maxTagValue bounds a tag's value.
const maxTagValue = 256

// allSecret stands for more names of secret variables than a tag holds. No variable has this name, since none has a colon.
const allSecret = ":all"

// escape replaces what tags may not contain, and the escape character itself, by = and two digits.
func escape(text string) string {
	var out strings.Builder
	for _, b := range []byte(text) {
		switch {
		case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b >= '0' && b <= '9', strings.IndexByte(" _.:/+-@", b) >= 0:
			out.WriteByte(b)
		default:
			fmt.Fprintf(&out, "=%02x", b)
		}
	}
	return out.String()
}

// unescape undoes escape. What escape did not make comes back as it is.
func unescape(text string) string {
	var out []byte
	for i := 0; i < len(text); i++ {
		if text[i] == '=' && i+2 < len(text) {
			if b, err := hex.DecodeString(text[i+1 : i+3]); err == nil {
				out = append(out, b...)
				i += 2
				continue
			}
		}
		out = append(out, text[i])
	}
	return string(out)
}

// configTags are the tags that follow from a configuration.
func configTags(config driver.Config) map[string]string {
	tags := map[string]string{tagRuntime: runtimeTag(config.Runtime)}
	if len(config.Secrets) > 0 {
		names := strings.Join(slices.Sorted(slices.Values(config.Secrets)), " ")
		if len(names) > maxTagValue {
			names = allSecret
		}
		tags[tagSecrets] = names
	}
	if config.ProvisionedConcurrency > 0 {
		tags[tagProvisioned] = fmt.Sprint(config.ProvisionedConcurrency)
	}
	if config.ColdStartMethod != "" {
		tags[tagColdStart] = config.ColdStartMethod
	}
	return tags
}

// functionTags are the tags of a new function.
func functionTags(spec driver.FunctionSpec) map[string]string {
	tags := map[string]string{
		TagDeployment: escape(spec.Deployment), TagBenchmark: escape(spec.Benchmark), TagDigest: escape(spec.Code.Digest),
	}
	for name, value := range spec.Labels {
		tags[tagLabel+escape(name)] = escape(value)
	}
	maps.Copy(tags, configTags(spec.Config))
	if spec.Settings[SettingColdStart] == ColdStartVersion {
		tags[tagColdStart] = ColdStartVersion
	}
	if wantsAlias(tags, spec.Config) {
		tags[tagAlias] = aliasName
	}
	return tags
}

// wantsAlias tells whether calls of the function go through the alias: each change makes a version then, or sandboxes
// are kept initialised, which Lambda does for versions only.
func wantsAlias(tags map[string]string, config driver.Config) bool {
	return cmp.Or(config.ColdStartMethod, tags[tagColdStart]) == ColdStartVersion || config.ProvisionedConcurrency > 0
}

// labelsOf returns the labels that a function was created with.
func labelsOf(tags map[string]string) map[string]string {
	labels := make(map[string]string)
	for name, value := range tags {
		if label, ok := strings.CutPrefix(name, tagLabel); ok {
			labels[unescape(label)] = unescape(value)
		}
	}
	return labels
}
