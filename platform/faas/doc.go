// Package faas is the suite's view of Function-as-a-Service platforms.
//
// Platform is the concrete type that services use. It holds what is the same on
// all platforms: naming rules, checks against the platform's capabilities, retries
// of throttled calls, waiting for updates to be done, and the enforcement of cold
// starts. What differs is behind the interface of package driver, one package per
// platform; package drivertest holds the conformance suite that every driver runs.
package faas
