// Package objects runs the suite's own S3 object store inside the process, over one directory.
//
// The S3 front (authentication, policies, checksums, multipart) and the file layout are versitygw's; this package
// gives them three things that a store living inside another program needs:
//
//   - absolute paths: versitygw's file backend works relative to the process's working directory, which belongs to
//     the user who started the suite, so every bucket is handed to it as an absolute path, and it is made on a thread
//     with a directory of its own;
//   - accounts: a root account with random keys kept in the state directory (mode 0600), and one account per
//     deployment whose secret is derived from the root secret, so none has to be stored or created;
//   - events: each object created is reported by a function call, without a webhook or a broker in between.
//
// A store keeps its port across restarts, because the environment of deployed functions names it.
//
// One limit of the file layout remains: the keys "a" and "a/b" cannot both exist. Writing the second one is refused
// with a conflict that says so.
package objects
