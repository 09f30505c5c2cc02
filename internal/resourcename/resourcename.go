// Package resourcename reads and writes the names of resources, such as
// platforms/{platform}/deployments/{rid}/functions/{function}/triggers/{trigger}.
package resourcename

import (
	"strings"

	"github.com/sebs-suite/sebs/internal/errs"
)

// maxIDBytes bounds one id; function names of all platforms fit.
const maxIDBytes = 255

// Name is the name of a platform, a deployment, a function or a trigger: the fields up to its kind are set.
type Name struct {
	Platform   string
	Deployment string
	Function   string
	Trigger    string
}

var collections = [...]string{"platforms", "deployments", "functions", "triggers"}

// Parse reads a name of any kind. field is the field of the request that held it, for the error.
func Parse(field, text string) (Name, error) {
	var n Name
	parts := strings.Split(text, "/")
	ids := [...]*string{&n.Platform, &n.Deployment, &n.Function, &n.Trigger}
	if len(parts) < 2 || len(parts) > 2*len(ids) || len(parts)%2 != 0 {
		return Name{}, malformed(field, text)
	}
	for i := 0; i < len(parts); i += 2 {
		if parts[i] != collections[i/2] || !ValidID(parts[i+1]) {
			return Name{}, malformed(field, text)
		}
		*ids[i/2] = parts[i+1]
	}
	return n, nil
}

// ParseDeployment reads the name of a deployment.
func ParseDeployment(field, text string) (Name, error) {
	return parseKind(field, text, 2)
}

// ParseFunction reads the name of a function.
func ParseFunction(field, text string) (Name, error) {
	return parseKind(field, text, 3)
}

// ParseTrigger reads the name of a trigger.
func ParseTrigger(field, text string) (Name, error) {
	return parseKind(field, text, 4)
}

func parseKind(field, text string, depth int) (Name, error) {
	n, err := Parse(field, text)
	if err != nil || n.depth() != depth {
		return Name{}, errs.Fields(errs.Field(field, "%q has to be of the form %s", text, form(depth)))
	}
	return n, nil
}

func (n Name) depth() int {
	depth := 0
	for _, id := range [...]string{n.Platform, n.Deployment, n.Function, n.Trigger} {
		if id == "" {
			break
		}
		depth++
	}
	return depth
}

// String writes the name up to the first field that is not set.
func (n Name) String() string {
	var b strings.Builder
	for i, id := range [...]string{n.Platform, n.Deployment, n.Function, n.Trigger} {
		if id == "" {
			break
		}
		if i > 0 {
			b.WriteByte('/')
		}
		b.WriteString(collections[i] + "/" + id)
	}
	return b.String()
}

// Parent returns the name of what the resource belongs to; the zero Name for a platform.
func (n Name) Parent() Name {
	switch n.depth() {
	case 4:
		n.Trigger = ""
	case 3:
		n.Function = ""
	case 2:
		n.Deployment = ""
	default:
		return Name{}
	}
	return n
}

// ValidID reports whether an id can stand in a name: letters, digits, and - _ . ~ but neither "." nor "..", at most 255
// bytes.
func ValidID(id string) bool {
	if id == "" || id == "." || id == ".." || len(id) > maxIDBytes {
		return false
	}
	for _, r := range id {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		digit := r >= '0' && r <= '9'
		if !letter && !digit && !strings.ContainsRune("-_.~", r) {
			return false
		}
	}
	return true
}

func form(depth int) string {
	var b strings.Builder
	for i := range depth {
		if i > 0 {
			b.WriteByte('/')
		}
		b.WriteString(collections[i] + "/{" + strings.TrimSuffix(collections[i], "s") + "}")
	}
	return b.String()
}

func malformed(field, text string) error {
	return errs.Fields(errs.Field(field, "%q is no resource name; it has to be of the form %s or a part of it", text, form(len(collections))))
}
