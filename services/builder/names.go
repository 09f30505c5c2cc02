package builder

import (
	"encoding/base64"
	"regexp"
	"strings"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/services/builder/benchmark"
	"github.com/sebs-suite/sebs/services/builder/runtimesdata"

	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
)

var (
	digestPattern     = regexp.MustCompile(`^[0-9a-f]{64}$`)
	deploymentPattern = regexp.MustCompile(`^platforms/([a-z][a-z0-9-]{0,31})/deployments/([A-Za-z0-9][A-Za-z0-9-]{0,62})$`)
	bucketPattern     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{1,253}$`)
)

// digestOf takes the digest out of a name such as `packages/{digest}`.
func digestOf(field, collection, name string) (string, error) {
	digest, ok := strings.CutPrefix(name, collection+"/")
	if !ok || !digestPattern.MatchString(digest) {
		return "", errs.Fields(errs.Field(field, "%q is not a name of the form %s/{digest}, with a digest of 64 hexadecimal digits", name, collection))
	}
	return digest, nil
}

// deploymentOf takes platform and resource id out of a deployment's name.
func deploymentOf(parent string) (platform, rid string, err error) {
	match := deploymentPattern.FindStringSubmatch(parent)
	if match == nil {
		return "", "", errs.Fields(errs.Field("parent", "%q is not a name of the form platforms/{platform}/deployments/{rid}", parent))
	}
	return match[1], match[2], nil
}

var languageNames = map[typev1.Language]string{
	typev1.Language_LANGUAGE_PYTHON: benchmark.Python,
	typev1.Language_LANGUAGE_NODEJS: benchmark.NodeJS,
	typev1.Language_LANGUAGE_JAVA:   benchmark.Java,
	typev1.Language_LANGUAGE_CPP:    benchmark.CPP,
}

var architectureNames = map[typev1.Architecture]string{
	typev1.Architecture_ARCHITECTURE_X64:   "x64",
	typev1.Architecture_ARCHITECTURE_ARM64: "arm64",
}

var systemVariantNames = map[typev1.SystemVariant]string{
	typev1.SystemVariant_SYSTEM_VARIANT_PACKAGE:       "package",
	typev1.SystemVariant_SYSTEM_VARIANT_CONTAINER:     "container",
	typev1.SystemVariant_SYSTEM_VARIANT_FUNCTION_GEN1: "function-gen1",
	typev1.SystemVariant_SYSTEM_VARIANT_FUNCTION_GEN2: "function-gen2",
}

// valueOf is the reverse of the maps above; the zero value for an unknown name.
func valueOf[K comparable](names map[K]string, name string) K {
	for key, value := range names {
		if value == name {
			return key
		}
	}
	var zero K
	return zero
}

// choiceOf translates what a request says about the runtime.
func choiceOf(platform string, runtime *typev1.Runtime, architecture typev1.Architecture, variant typev1.SystemVariant) runtimesdata.Choice {
	return runtimesdata.Choice{
		Platform: platform, Language: languageNames[runtime.GetLanguage()], Version: runtime.GetVersion(), Variant: runtime.GetVariant(),
		Architecture: architectureNames[architecture], SystemVariant: systemVariantNames[variant],
	}
}

// runtimeOf translates a choice back.
func runtimeOf(c runtimesdata.Choice) *typev1.Runtime {
	return &typev1.Runtime{Language: valueOf(languageNames, c.Language), Version: c.Version, Variant: c.Variant}
}

// page cuts one page out of a sorted list of names: those after the one that the token holds.
func page(names []string, size int32, token string, standard, most int) (from, to int, next string, err error) {
	if size < 0 {
		return 0, 0, "", errs.Fields(errs.Field("page_size", "must not be negative"))
	}
	count := int(size)
	if count == 0 {
		count = standard
	}
	count = min(count, most)
	if token != "" {
		raw, err := base64.RawURLEncoding.DecodeString(token)
		if err != nil {
			return 0, 0, "", errs.Fields(errs.Field("page_token", "is not a token of this list; take it from the previous answer"))
		}
		for from < len(names) && names[from] <= string(raw) {
			from++
		}
	}
	to = min(from+count, len(names))
	if to < len(names) {
		next = base64.RawURLEncoding.EncodeToString([]byte(names[to-1]))
	}
	return from, to, next, nil
}
