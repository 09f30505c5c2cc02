package driver

import (
	"strings"

	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
)

// RuntimeFromProto returns the runtime of a message. The default variant is empty.
func RuntimeFromProto(r *typev1.Runtime) Runtime {
	out := Runtime{Version: r.GetVersion(), Variant: r.GetVariant()}
	if r.GetLanguage() != typev1.Language_LANGUAGE_UNSPECIFIED {
		out.Language = strings.ToLower(strings.TrimPrefix(r.GetLanguage().String(), "LANGUAGE_"))
	}
	if out.Variant == "default" {
		out.Variant = ""
	}
	return out
}

// Proto returns the runtime as a message, with the variant spelled out.
func (r Runtime) Proto() *typev1.Runtime {
	out := &typev1.Runtime{Version: r.Version, Variant: r.Variant}
	out.Language = typev1.Language(typev1.Language_value["LANGUAGE_"+strings.ToUpper(r.Language)])
	if out.Variant == "" {
		out.Variant = "default"
	}
	return out
}

// ArchitectureFromProto returns "x64", "arm64", or nothing where none is given.
func ArchitectureFromProto(a typev1.Architecture) string {
	if a == typev1.Architecture_ARCHITECTURE_UNSPECIFIED {
		return ""
	}
	return strings.ToLower(strings.TrimPrefix(a.String(), "ARCHITECTURE_"))
}

// ArchitectureProto returns the architecture of that name as a message.
func ArchitectureProto(name string) typev1.Architecture {
	return typev1.Architecture(typev1.Architecture_value["ARCHITECTURE_"+strings.ToUpper(name)])
}

// TriggerTypeFromProto returns "http", "library", "storage", or nothing where none
// is given.
func TriggerTypeFromProto(t typev1.TriggerType) TriggerType {
	if t == typev1.TriggerType_TRIGGER_TYPE_UNSPECIFIED {
		return ""
	}
	return TriggerType(strings.ToLower(strings.TrimPrefix(t.String(), "TRIGGER_TYPE_")))
}

// Proto returns the type as a message, unspecified for a name that is none.
func (t TriggerType) Proto() typev1.TriggerType {
	return typev1.TriggerType(typev1.TriggerType_value["TRIGGER_TYPE_"+strings.ToUpper(string(t))])
}
