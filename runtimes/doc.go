// Package runtimes holds the function side of the suite: what runs next to a
// benchmark's own code, in the language of the function. The files are
// embedded, so every process that links this package carries them.
//
// # What is in it
//
// For each language there is
//
//   - a bootstrap: a client of the AWS Lambda Runtime API on the standard
//     library of the language. It is no part of a code package; the local
//     platform puts it next to the sandbox and starts it with
//     "<interpreter> <dir>/<Bootstrap.Entry>";
//   - a core (sebs_core), the same on every platform: it takes the payload
//     out of the event (the payload itself, an HTTP request with a string
//     "body", an upload notification), calls the benchmark's
//     function.handler(event), takes begin and end around that
//     call alone, and makes the answer every reader of the suite expects:
//     {begin, end, results_time, is_cold, request_id, container_id,
//     cold_start_var, result: {result, measurement?}};
//   - an adapter per platform (handler.py, handler.js) that turns the
//     platform's calling convention into one call of the core. On aws every
//     answer is {"statusCode": 200, "body": "<the answer as JSON text>"}, to
//     HTTP requests and to direct calls alike; on local it is the answer;
//   - the client modules storage and nosql, with the signatures SeBS
//     benchmarks are written against, on clients of the standard library
//     alone (sebs_s3, sebs_sigv4);
//   - an account per platform (sebs_account): where the stores are and what
//     signs requests there.
//
// # How a builder uses it
//
//	catalog, err := runtimes.Load()
//	layout, err := catalog.Layout("local", "python")
//
// Then, in this order:
//
//  1. put the benchmark's sources under Layout.SourceDir of the package;
//  2. add every file of Layout.Files at File.Path, its content being
//     Catalog.Read(File). A file with KeepExisting set yields to one the
//     benchmark ships at the same path;
//  3. move the files named in Layout.RootFiles (requirement files) from
//     SourceDir to the root of the package;
//  4. add Layout.Packages, and for each module named in the benchmark's
//     config.json Layout.ModulePackages(module), to the requirement file
//     (python: Package.Requirement, one per line; nodejs: Package.Name and
//     Package.Version into "dependencies");
//  5. install dependencies into Layout.DependencyDir;
//  6. use Layout.Handler as the handler string of the function and mix
//     Layout.Digest into the digest of the package.
//
// # How a sandbox uses it
//
//	bootstrap, err := catalog.Bootstrap("python")
//	err = catalog.Write(bootstrap.Files, dir)
//
// and starts the interpreter on Bootstrap.Entry with AWS_LAMBDA_RUNTIME_API
// (host:port), _HANDLER and LAMBDA_TASK_ROOT (directory of the unpacked
// package) in the environment. AWS_LAMBDA_FUNCTION_NAME, _VERSION,
// _MEMORY_SIZE, _LOG_GROUP_NAME and _LOG_STREAM_NAME are passed on to the
// function's context object where they are set.
//
// Environment read by the client modules of platform local:
//
//	MINIO_ADDRESS                 host:port or URL of the object store
//	MINIO_ACCESS_KEY              key of the function's own account
//	MINIO_SECRET_KEY
//	NOSQL_STORAGE_TYPE            "scylladb" (any DynamoDB-compatible store) or "dynamodb"
//	NOSQL_STORAGE_ENDPOINT        host:port or URL of the table store
//	NOSQL_STORAGE_TABLE_<table>   real name of a benchmark's table
//	NOSQL_STORAGE_ACCESS_KEY      optional; "None" where absent
//	NOSQL_STORAGE_SECRET_KEY      optional; "None" where absent
//	NOSQL_STORAGE_REGION          optional; "None" where absent
//
// Environment read by the client modules of platform aws, all but the tables'
// names set by Lambda itself:
//
//	AWS_REGION                    region of the function, its buckets and tables
//	AWS_ACCESS_KEY_ID             credentials of the function's role
//	AWS_SECRET_ACCESS_KEY
//	AWS_SESSION_TOKEN             signed and sent where it is set
//	NOSQL_STORAGE_TABLE_<table>   real name of a benchmark's table
//	AWS_ENDPOINT_URL_S3           URL of a store to use in place of S3, buckets in the path
//	AWS_ENDPOINT_URL_DYNAMODB     URL of a store to use in place of DynamoDB
//	AWS_ENDPOINT_URL              both
//
// # Storage trigger
//
// An event of the form {"Records": [{"s3": {"bucket": {"name"}, "object":
// {"key"}}}]} is an upload notification. The adapter loads the named object as
// the payload, calls the function, writes the answer to
// "results/<base name of the key>" of the same bucket, and also answers the
// call with it. When the function fails the object written is
// {"errorType", "errorMessage"} and the call fails as well.
package runtimes
