// Package packaging builds code packages: the archive that a platform runs a function from.
//
// A package consists of two parts. The dependency layer holds what an installer put there; it depends on the
// requirements, the language, its version, the architecture and the installer alone, is kept under a digest of these,
// and is taken over into packages without being compressed again. The rest is the benchmark's own files, what its
// init.sh adds, and the files of the suite's runtime. So a change of a source file costs a new archive, but no
// installation.
//
// Java and C++ packages have no layer: a compiler makes them from the sources, in a directory of its own, and what it writes
// about the machine and the time is left out.
//
// The digest of a package covers everything that can change its content, and nothing that belongs to the building
// machine, unless a compiler is part of what can change it.
package packaging
