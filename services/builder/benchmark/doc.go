// Package benchmark finds benchmark folders and reads their config.json.
//
// A benchmark is addressed by the name of its folder, such as `110.dynamic-html`; the group folders above it
// (`100.webapps`) are for people only. Several trees of benchmarks may be searched, the one that ships with the
// suite last, so that a user's folder of the same name wins.
package benchmark
