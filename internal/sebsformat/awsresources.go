package sebsformat

import (
	"cmp"
	"path"
	"strings"

	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
)

// AWSResources returns what SeBS writes about a deployment on AWS under config.deployment.resources, besides its id and
// buckets. All of it is names and addresses: keys and passwords are not known here. region is that of the deployment.
func AWSResources(deployment *typev1.Deployment, region string, functions []*typev1.Function) map[string]any {
	settings := deployment.GetSettings()
	role := settings["lambda-role"]
	apis, urls := map[string]any{}, map[string]any{}
	for _, function := range functions {
		// The role that the function has, which the suite may have made.
		if own := function.GetPlatformAttributes()["role"]; own != "" {
			role = own
		}
		name := path.Base(function.GetName())
		for _, trigger := range function.GetTriggers() {
			if trigger.GetType() != typev1.TriggerType_TRIGGER_TYPE_HTTP {
				continue
			}
			switch attributes := trigger.GetAttributes(); attributes["implementation"] {
			case "api_gateway":
				arn := apiARN(function, region, deployment.GetAccount(), attributes["api-id"])
				apis[name+"-http-api"] = map[string]any{"arn": arn, "endpoint": trigger.GetUrl()}
			case "function_url":
				urls[name] = map[string]any{"function_name": name, "url": trigger.GetUrl(), "auth_type": attributes["auth_type"]}
			}
		}
	}
	out := map[string]any{
		"lambda-role": role, "http-apis": apis, "function-urls": urls,
		"use-function-url": settings["use-function-url"] != "false", "function-url-auth-type": cmp.Or(settings["function-url-auth-type"], "NONE"),
	}
	if repository := settings["container_repository"]; repository != "" {
		out["container_repository"] = repository
	}
	// SeBS reads the registry only beside a repository.
	if registry := settings["docker-registry"]; registry != "" && out["container_repository"] != nil {
		out["docker"] = map[string]any{"registry": registry, "username": settings["docker-username"]}
	}
	return out
}

// apiARN returns the ARN of an HTTP API as SeBS writes it, in the partition of the function; empty where the API is not known.
func apiARN(function *typev1.Function, region, account, id string) string {
	if id == "" {
		return ""
	}
	partition := "aws"
	if parts := strings.Split(function.GetPlatformAttributes()["handle"], ":"); len(parts) > 1 && parts[0] == "arn" {
		partition = parts[1]
	}
	return strings.Join([]string{"arn", partition, "execute-api", region, account, id}, ":")
}
