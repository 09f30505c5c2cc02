package aws

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"

	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// document is a policy of IAM.
type document struct {
	Version   string
	Statement []statement
}

// statement is what a policy grants. Principal is there in trust policies only.
type statement struct {
	Sid       string            `json:",omitempty"`
	Effect    string            `json:",omitempty"`
	Principal map[string]string `json:",omitempty"`
	Action    []string
	Resource  []string `json:",omitempty"`
}

// policyVersion is the version of the policy language.
const policyVersion = "2012-10-17"

func policyOf(statements ...statement) document {
	for i := range statements {
		statements[i].Effect = "Allow"
	}
	return document{Version: policyVersion, Statement: statements}
}

// text returns the document as IAM takes it.
func (p document) text() string {
	raw, err := json.Marshal(p)
	if err != nil {
		// Texts and lists of texts can always be encoded.
		return ""
	}
	return string(raw)
}

// trustPolicy lets Lambda take the role.
func trustPolicy() document {
	return policyOf(statement{Principal: map[string]string{"Service": "lambda.amazonaws.com"}, Action: []string{"sts:AssumeRole"}})
}

// inline is a policy in a role.
type inline struct {
	name   string
	policy document
}

// Names of inline policies. Those of one role share 10,240 characters, so functions that need the same share a policy.
const (
	policyBuckets  = "buckets-"
	policyTables   = "tables-"
	policyLogs     = "logs"
	policyLogsOf   = "logs-"
	policyAsync    = "async"
	nameRole       = "sebs-lambda-role-"
	nameQueue      = "sebs-async-"
	nameRepository = "sebs-benchmarks-"
	logGroups      = "/aws/lambda/"
)

// policies are what a function of the suite may do: read and write the deployment's buckets, and tables whose names start
// with the given text, and write its own log.
func (d *Driver) policies(who account, spec driver.FunctionSpec) []inline {
	var all []inline
	if len(spec.Buckets) > 0 {
		all = append(all, byContent(policyBuckets, bucketPolicy(who, spec.Buckets)))
	}
	if spec.TablePrefix != "" {
		all = append(all, byContent(policyTables, policyOf(statement{
			Sid: "Tables",
			Action: []string{
				"dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem",
				"dynamodb:Query", "dynamodb:BatchGetItem", "dynamodb:BatchWriteItem",
			},
			Resource: []string{d.arn(who, "dynamodb", "table/"+spec.TablePrefix+"*")},
		})))
	}
	return append(all, d.logPolicy(who, spec.Deployment, spec.Name))
}

// byContent gives a policy a name that follows from what it grants, so that it is never replaced under another function.
func byContent(prefix string, policy document) inline {
	sum := sha256.Sum256([]byte(policy.text()))
	return inline{prefix + hex.EncodeToString(sum[:6]), policy}
}

func bucketPolicy(who account, buckets []string) document {
	list := statement{Sid: "ListBuckets", Action: []string{"s3:ListBucket"}}
	objects := statement{Sid: "Objects", Action: []string{"s3:GetObject", "s3:PutObject", "s3:DeleteObject"}}
	for _, bucket := range slices.Sorted(slices.Values(buckets)) {
		name := "arn:" + who.partition + ":s3:::" + bucket
		list.Resource = append(list.Resource, name)
		objects.Resource = append(objects.Resource, name+"/*")
	}
	return policyOf(list, objects)
}

// logPolicy grants the writing of the function's log. Functions whose names start with the deployment's own text share a
// policy for all such names; another one has its own, which goes with it.
func (d *Driver) logPolicy(who account, deployment, function string) inline {
	name, group := logPolicyName(deployment, function), function
	if name == policyLogs {
		group = namePrefix(deployment) + "*"
	}
	return inline{name, policyOf(statement{
		Sid: "Log", Action: []string{"logs:CreateLogStream", "logs:PutLogEvents"},
		Resource: []string{d.arn(who, "logs", "log-group:"+logGroups+group+":*")},
	})}
}

func logPolicyName(deployment, function string) string {
	if deployment != "" && strings.HasPrefix(function, namePrefix(deployment)) {
		return policyLogs
	}
	return policyLogsOf + function
}

// asyncPolicy grants the sending of outcomes to the deployment's queue.
func asyncPolicy(queue string) inline {
	return inline{policyAsync, policyOf(statement{Sid: "Outcomes", Action: []string{"sqs:SendMessage"}, Resource: []string{queue}})}
}

// namePrefix is what the default names of a deployment's functions start with.
func namePrefix(deployment string) string {
	return "sebs_" + strings.NewReplacer("-", "_", ".", "_").Replace(deployment) + "_"
}

// byName orders policies.
func byName(a, b inline) int { return cmp.Compare(a.name, b.name) }
