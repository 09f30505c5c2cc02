// Package sebsformat reads and writes the files of the Python suite SeBS 1.2: experiments.json and results.json, perf-cost
// raw files with their statistics block, perf-cost result.csv, the files of `local start` and `local stop`, and the user
// configuration. It also normalises what functions answer, whichever wrapper produced the answer.
//
// Written files have SeBS's keys (sorted), indentation (two spaces), units and number forms, so existing tools read them
// unchanged. Units differ by field and stand in the field names here: MemoryMB, ClientMicros, HTTPStartupSeconds.
//
// Secrets are never written: a credential keeps its key and has the value [REDACTED].
package sebsformat
