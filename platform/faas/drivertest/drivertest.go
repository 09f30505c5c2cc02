// Package drivertest is the conformance suite of driver.Driver. Every platform
// runs it against the stand-in that is named beside its exceptions.
package drivertest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/sebs-suite/sebs/platform/faas/driver"
)

// Harness gives the suite what it needs to know of one driver.
type Harness struct {
	// Driver is the driver under test. The suite does not close it.
	Driver driver.Driver
	// Deployment is a resource id that nothing else uses.
	Deployment string
	// Prefix starts the names of the functions that the suite makes.
	Prefix string
	// Config is a configuration that the platform accepts.
	Config driver.Config
	// Code returns deployable code whose function answers its input unchanged and
	// writes the line "marker <input's field marker>" to its log. Two revisions
	// differ in their digest.
	Code func(revision int) driver.Code
	// Bucket is a bucket that a storage trigger may watch, empty without one.
	Bucket string
	// CaseTimeout bounds one case, a minute if 0.
	CaseTimeout time.Duration
}

// Case is one property that every driver has.
type Case string

// The cases of the suite.
const (
	Identity            Case = "Identity"
	CapabilitiesReasons Case = "CapabilitiesReasons"
	CreateAndGet        Case = "CreateAndGet"
	CreateTwice         Case = "CreateTwice"
	NotFound            Case = "NotFound"
	DeleteTwice         Case = "DeleteTwice"
	UpdateCode          Case = "UpdateCode"
	UpdateConfiguration Case = "UpdateConfiguration"
	Paging              Case = "Paging"
	ListByDeployment    Case = "ListByDeployment"
	CancelledContext    Case = "CancelledContext"
	ParallelCalls       Case = "ParallelCalls"
	OddNames            Case = "OddNames"
	HTTPTrigger         Case = "HTTPTrigger"
	TriggerGone         Case = "TriggerGone"
	LibraryTrigger      Case = "LibraryTrigger"
	StorageTrigger      Case = "StorageTrigger"
	Invoke              Case = "Invoke"
	InvokeAsync         Case = "InvokeAsync"
	Logs                Case = "Logs"
	Metrics             Case = "Metrics"
	Discover            Case = "Discover"
)

// Except maps cases that a driver cannot pass to the reason. A case that is named
// here and passes all the same fails the test, so that the list stays true.
type Except map[Case]string

// property checks one case. It reports a violation as an error, so that an
// exception can be told from a pass.
type property struct {
	name Case
	run  func(ctx context.Context, h *Harness, prefix string) error
}

func properties() []property {
	return []property{
		{Identity, identity},
		{CapabilitiesReasons, capabilitiesReasons},
		{CreateAndGet, createAndGet},
		{CreateTwice, createTwice},
		{NotFound, notFound},
		{DeleteTwice, deleteTwice},
		{UpdateCode, updateCode},
		{UpdateConfiguration, updateConfiguration},
		{Paging, paging},
		{ListByDeployment, listByDeployment},
		{CancelledContext, cancelledContext},
		{ParallelCalls, parallelCalls},
		{OddNames, oddNames},
		{HTTPTrigger, httpTrigger},
		{TriggerGone, triggerGone},
		{LibraryTrigger, libraryTrigger},
		{StorageTrigger, storageTrigger},
		{Invoke, invoke},
		{InvokeAsync, invokeAsync},
		{Logs, logs},
		{Metrics, metrics},
		{Discover, discover},
	}
}

// Run runs every case against the driver that open returns. Each case works on
// functions of its own and removes them.
func Run(t *testing.T, open func(t *testing.T) *Harness, except Except) {
	t.Helper()
	h := open(t)
	for i, p := range properties() {
		t.Run(string(p.name), func(t *testing.T) {
			timeout := h.CaseTimeout
			if timeout == 0 {
				timeout = time.Minute
			}
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			err := p.run(ctx, h, fmt.Sprintf("%s%02d", h.Prefix, i))
			reason, excepted := except[p.name]
			switch {
			case excepted && err == nil:
				t.Errorf("is listed as an exception (%s) but passes; take it off the list", reason)
			case excepted:
				t.Skipf("needs what the platform lacks: %s (%v)", reason, err)
			case err != nil:
				t.Error(err)
			}
		})
	}
}
