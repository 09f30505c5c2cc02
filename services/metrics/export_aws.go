package metrics

import (
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
	"github.com/sebs-suite/sebs/internal/sebsformat"
)

// awsResources returns what SeBS writes about a deployment on AWS under config.deployment.resources, besides its id and buckets.
func awsResources(a about) map[string]any {
	var functions []*typev1.Function
	for _, f := range a.run.GetFunctions() {
		functions = append(functions, f.GetFunction())
	}
	return sebsformat.AWSResources(a.deployment, a.region(), functions)
}
