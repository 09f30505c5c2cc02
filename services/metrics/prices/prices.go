// Package prices knows what invocations cost.
//
// The prices are data: prices.json, which is part of the program, and a file of the same form that the configuration names. They
// are list prices in US dollars without free tier, savings plans and taxes. The source of the embedded ones is AWS's page of prices
// (https://aws.amazon.com/lambda/pricing/); each table says as of which day. Only regions are in it whose prices are certain; any
// other region is estimated at the price of us-east-1, and every answer says so.
//
// Units are AWS's own: a GB-second is 1,024 MB for a second, the duration of an invocation is rounded up to whole milliseconds,
// provisioned concurrency is paid in steps of five minutes, and ephemeral storage from 512 MB on. Nothing is rounded after that.
package prices

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"time"
)

//go:embed prices.json
var embedded []byte

const (
	// fallbackPlatform, fallbackRegion and fallbackArchitecture say what stands in for a price that is not known.
	fallbackPlatform     = "aws"
	fallbackRegion       = "us-east-1"
	fallbackArchitecture = "x64"
	// largest bounds a price, so that one in cents per million is noticed.
	largest = 1.0
)

// file is the form of a file of prices.
type file struct {
	Tables []*Table `json:"tables"`
}

// Table holds the prices of some regions of a platform.
type Table struct {
	// Platform is the platform's name.
	Platform string `json:"platform"`
	// Regions are the regions in which the prices are valid; empty means every region that no other table of the same file names.
	Regions []string `json:"regions"`
	// AsOf is the day on which the prices were in force, YYYY-MM-DD.
	AsOf string `json:"as_of"`
	// Source says where the prices were read.
	Source string `json:"source"`
	// USDPerRequest is the fee of a request.
	USDPerRequest *float64 `json:"usd_per_request"`
	// USDPerStorageGBSecond is the price of ephemeral storage beyond 512 MB; nil if not known.
	USDPerStorageGBSecond *float64 `json:"usd_per_storage_gb_second,omitempty"`
	// Architectures holds the prices of compute time by architecture, "x64" or "arm64".
	Architectures map[string]*Rates `json:"architectures"`

	custom bool
}

// Rates are the prices of compute time on one architecture.
type Rates struct {
	// Tiers are the prices of a GB-second by the GB-seconds of the month, in rising order.
	Tiers []Tier `json:"tiers"`
	// USDPerProvisionedGBSecond is the price of provisioned concurrency while it is kept; nil if not known.
	USDPerProvisionedGBSecond *float64 `json:"usd_per_provisioned_gb_second,omitempty"`
	// USDPerProvisionedDurationGBSecond is the price of a GB-second of an invocation on provisioned concurrency; nil if not known.
	USDPerProvisionedDurationGBSecond *float64 `json:"usd_per_provisioned_duration_gb_second,omitempty"`
}

// Tier is the price of the GB-seconds up to a limit.
type Tier struct {
	// UpToGBSeconds is where the tier ends; 0 for the last one, which has no end.
	UpToGBSeconds float64 `json:"up_to_gb_seconds,omitempty"`
	// USDPerGBSecond is the price.
	USDPerGBSecond float64 `json:"usd_per_gb_second"`
}

// Book holds the prices in use. It does not change after it was opened.
type Book struct {
	// custom are the user's tables, which win over the embedded ones.
	custom, embedded []*Table
}

// Open reads the embedded prices and, unless path is empty, those of a file, which win. A file that is not of the form is an
// error that names every problem by its place.
func Open(path string) (*Book, error) {
	book := &Book{}
	if path != "" {
		raw, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read the prices: %w", err)
		}
		tables, err := parse(raw)
		if err != nil {
			return nil, fmt.Errorf("%s is no file of prices: %w", path, err)
		}
		for _, t := range tables {
			t.custom = true
		}
		book.custom = tables
	}
	var err error
	if book.embedded, err = parse(embedded); err != nil {
		return nil, fmt.Errorf("read the embedded prices: %w", err)
	}
	return book, nil
}

// parse reads and checks a file of prices.
func parse(raw []byte) ([]*Table, error) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	var f file
	if err := decoder.Decode(&f); err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more after the tables")
	}
	if len(f.Tables) == 0 {
		return nil, errors.New("tables is empty")
	}
	var problems []error
	seen := make(map[string]int)
	for i, t := range f.Tables {
		place := fmt.Sprintf("tables[%d]", i)
		if t == nil {
			problems = append(problems, fmt.Errorf("%s is null", place))
			continue
		}
		problems = append(problems, t.check(place)...)
		for _, region := range t.scope() {
			if other, taken := seen[t.Platform+"/"+region]; taken {
				problems = append(problems, fmt.Errorf("%s and tables[%d] both price region %q of %s", place, other, region, t.Platform))
			}
			seen[t.Platform+"/"+region] = i
		}
	}
	return f.Tables, list(problems)
}

// list joins problems in one line, as errors of fields are shown.
func list(problems []error) error {
	if len(problems) == 0 {
		return nil
	}
	texts := make([]string, 0, len(problems))
	for _, p := range problems {
		texts = append(texts, p.Error())
	}
	return errors.New(strings.Join(texts, "; "))
}

// scope returns the regions of a table; the empty one stands for all.
func (t *Table) scope() []string {
	if len(t.Regions) == 0 {
		return []string{""}
	}
	return t.Regions
}

func (t *Table) check(place string) (problems []error) {
	wrong := func(field, format string, args ...any) {
		problems = append(problems, fmt.Errorf("%s.%s %s", place, field, fmt.Sprintf(format, args...)))
	}
	if !slices.Contains(Platforms(), t.Platform) {
		wrong("platform", "is %q and has to be one of %s", t.Platform, strings.Join(Platforms(), ", "))
	}
	if slices.Contains(t.Regions, "") {
		wrong("regions", "has an empty name; leave regions out to mean all")
	}
	if _, err := time.Parse(time.DateOnly, t.AsOf); err != nil {
		wrong("as_of", "is %q and has to be the day of the prices, YYYY-MM-DD", t.AsOf)
	}
	if t.USDPerRequest == nil {
		wrong("usd_per_request", "is missing; give 0 where requests are free")
	}
	if len(t.Architectures) == 0 {
		wrong("architectures", "is empty; give x64, arm64 or both")
	}
	checkPrice := func(field string, price *float64) {
		if price != nil && (*price < 0 || *price > largest) {
			wrong(field, "is %v and has to be between 0 and %v US dollars", *price, largest)
		}
	}
	checkPrice("usd_per_request", t.USDPerRequest)
	checkPrice("usd_per_storage_gb_second", t.USDPerStorageGBSecond)
	names := make([]string, 0, len(t.Architectures))
	for name := range t.Architectures {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		field, rates := "architectures."+name, t.Architectures[name]
		if !slices.Contains(Architectures(), name) {
			wrong(field, "is no architecture; use x64 or arm64")
		}
		if rates == nil || len(rates.Tiers) == 0 {
			wrong(field+".tiers", "is empty; give at least {\"usd_per_gb_second\": …}")
			continue
		}
		checkPrice(field+".usd_per_provisioned_gb_second", rates.USDPerProvisionedGBSecond)
		checkPrice(field+".usd_per_provisioned_duration_gb_second", rates.USDPerProvisionedDurationGBSecond)
		last := 0.0
		for i, tier := range rates.Tiers {
			at := fmt.Sprintf("%s.tiers[%d]", field, i)
			checkPrice(at+".usd_per_gb_second", &tier.USDPerGBSecond)
			switch final := i == len(rates.Tiers)-1; {
			case final && tier.UpToGBSeconds != 0:
				wrong(at+".up_to_gb_seconds", "must be left out: the last tier has no end")
			case !final && tier.UpToGBSeconds <= last:
				wrong(at+".up_to_gb_seconds", "is %v and has to be greater than %v", tier.UpToGBSeconds, last)
			}
			last = tier.UpToGBSeconds
		}
	}
	return problems
}

// Architectures lists the architectures that can have prices.
func Architectures() []string { return []string{"x64", "arm64"} }

// Platforms lists the platforms that can have prices.
func Platforms() []string { return []string{"aws", "azure", "gcp", "local", "openwhisk"} }

// Price is what is paid for a function of one architecture in one region.
type Price struct {
	// Platform is whose price it is.
	Platform string
	// Region is the region whose price it is; empty means every region.
	Region string
	// Architecture is the architecture whose price it is, "x64" or "arm64".
	Architecture string
	// AsOf is the day on which the price was in force, YYYY-MM-DD.
	AsOf string
	// Source says where the price was read.
	Source string
	// Custom tells that the price is from the user's file.
	Custom bool
	// Estimated tells that it is another platform's, region's or architecture's price than the one asked for.
	Estimated bool
	// Tiers are the prices of a GB-second, in rising order.
	Tiers []Tier
	// USDPerRequest is the fee of a request.
	USDPerRequest float64
	// Storage is the price of a GB-second of ephemeral storage beyond 512 MB.
	Storage Part
	// Provisioned is the price of a GB-second of provisioned concurrency, and ProvisionedDuration that of the invocations on it.
	Provisioned, ProvisionedDuration Part
}

// Part is a price that not every table has.
type Part struct {
	// USD is the price.
	USD float64
	// Estimated tells that it is another platform's, region's or architecture's.
	Estimated bool
}

// Find returns the price of a platform in a region. Where there is none it is that of AWS in us-east-1, and estimated.
func (b *Book) Find(platform, region, architecture string) Price {
	asked, known := b.lookup(platform, region, architecture)
	standIn, _ := b.lookup(fallbackPlatform, fallbackRegion, architecture)
	if standIn.rates == nil {
		standIn, _ = b.lookup(fallbackPlatform, fallbackRegion, fallbackArchitecture)
	}
	if !known {
		asked = standIn
	}
	t, rates := asked.table, asked.rates
	p := Price{
		Platform: t.Platform, Region: asked.region, Architecture: asked.architecture, AsOf: t.AsOf, Source: t.Source, Custom: t.custom,
		Estimated: !known, Tiers: rates.Tiers, USDPerRequest: *t.USDPerRequest,
	}
	part := func(own, other *float64) Part {
		switch {
		case own != nil:
			return Part{USD: *own, Estimated: !known}
		case other != nil:
			return Part{USD: *other, Estimated: true}
		default:
			return Part{Estimated: true}
		}
	}
	p.Storage = part(t.USDPerStorageGBSecond, standIn.table.USDPerStorageGBSecond)
	p.Provisioned = part(rates.USDPerProvisionedGBSecond, standIn.rates.USDPerProvisionedGBSecond)
	p.ProvisionedDuration = part(rates.USDPerProvisionedDurationGBSecond, standIn.rates.USDPerProvisionedDurationGBSecond)
	return p
}

// found is the place of a price.
type found struct {
	table                *Table
	rates                *Rates
	region, architecture string
}

// lookup searches the user's tables before the embedded ones, and in both a region's own before those for all regions.
func (b *Book) lookup(platform, region, architecture string) (found, bool) {
	for _, tables := range [][]*Table{b.custom, b.embedded} {
		for _, name := range slices.Compact([]string{region, ""}) {
			for _, t := range tables {
				if t.Platform != platform || !slices.Contains(t.scope(), name) {
					continue
				}
				if rates := t.Architectures[architecture]; rates != nil {
					return found{table: t, rates: rates, region: name, architecture: architecture}, true
				}
			}
		}
	}
	return found{}, false
}

// List returns every price of a platform that is in use, by region and architecture. It is empty where none is known.
func (b *Book) List(platform string) []Price {
	var out []Price
	for _, t := range slices.Concat(b.custom, b.embedded) {
		if t.Platform != platform {
			continue
		}
		for _, region := range t.scope() {
			for _, architecture := range Architectures() {
				// A table that another one hides is not in use.
				if in, ok := b.lookup(platform, region, architecture); ok && in.table == t {
					out = append(out, b.Find(platform, region, architecture))
				}
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Price) int { return strings.Compare(a.Region, b.Region) })
	return out
}

// Cost returns the cost of invocations together. The tiers count from zero, as if the account had used nothing else this month:
// what it used is not known here, and a higher tier only makes it cheaper.
func (p *Price) Cost(gbSeconds float64, requests int64) float64 {
	return p.compute(gbSeconds) + float64(requests)*p.USDPerRequest
}

func (p *Price) compute(gbSeconds float64) (usd float64) {
	from := 0.0
	for _, tier := range p.Tiers {
		if tier.UpToGBSeconds == 0 || gbSeconds <= tier.UpToGBSeconds {
			return usd + (gbSeconds-from)*tier.USDPerGBSecond
		}
		usd += (tier.UpToGBSeconds - from) * tier.USDPerGBSecond
		from = tier.UpToGBSeconds
	}
	return usd
}

// Tier returns the number of the tier, from 1, that so many GB-seconds reach.
func (p *Price) Tier(gbSeconds float64) int {
	for i, tier := range p.Tiers {
		if tier.UpToGBSeconds == 0 || gbSeconds <= tier.UpToGBSeconds {
			return i + 1
		}
	}
	return len(p.Tiers)
}

// Usage is what is to be paid for.
type Usage struct {
	// Invocations is how many invocations there are.
	Invocations int64
	// Duration is how long each of them is billed, before it is rounded up to whole milliseconds.
	Duration time.Duration
	// MemoryMB is the memory limit, in MB of 2^20 bytes.
	MemoryMB int64
	// StorageMB is the ephemeral storage; the first 512 MB are free.
	StorageMB int64
	// ProvisionedConcurrency is how many sandboxes are kept ready for ProvisionedTime. Every invocation then runs on them.
	ProvisionedConcurrency int64
	ProvisionedTime        time.Duration
}

// Estimate is what a usage costs, in US dollars.
type Estimate struct {
	// Requests, Compute, Storage and Provisioned are the parts of the cost.
	Requests, Compute, Storage, Provisioned float64
	// GBSeconds is the compute time.
	GBSeconds float64
	// Billed is how long each invocation is billed.
	Billed time.Duration
	// Estimated tells that a price is not that of the place that was asked for.
	Estimated bool
}

// Total is the whole cost.
func (e *Estimate) Total() float64 { return e.Requests + e.Compute + e.Storage + e.Provisioned }

const (
	// mbPerGB is how many MB a GB has in a GB-second.
	mbPerGB = 1024
	// freeStorageMB is the ephemeral storage that costs nothing.
	freeStorageMB = 512
	// provisionedStep is what the time of provisioned concurrency is rounded up to.
	provisionedStep = 5 * time.Minute
)

// Estimate returns what a usage costs.
func (p *Price) Estimate(u Usage) Estimate {
	e := Estimate{Billed: roundUp(u.Duration, time.Millisecond), Requests: float64(u.Invocations) * p.USDPerRequest, Estimated: p.Estimated}
	seconds := float64(u.Invocations) * e.Billed.Seconds()
	e.GBSeconds = seconds * float64(u.MemoryMB) / mbPerGB
	e.Compute = p.compute(e.GBSeconds)
	if u.StorageMB > freeStorageMB {
		e.Storage = seconds * float64(u.StorageMB-freeStorageMB) / mbPerGB * p.Storage.USD
		e.Estimated = e.Estimated || p.Storage.Estimated
	}
	if u.ProvisionedConcurrency > 0 {
		e.Compute = e.GBSeconds * p.ProvisionedDuration.USD
		kept := float64(u.ProvisionedConcurrency) * roundUp(u.ProvisionedTime, provisionedStep).Seconds()
		e.Provisioned = kept * float64(u.MemoryMB) / mbPerGB * p.Provisioned.USD
		e.Estimated = e.Estimated || p.Provisioned.Estimated || p.ProvisionedDuration.Estimated
	}
	return e
}

// roundUp rounds up to a multiple of a step. A duration near the end of the range stays as it is.
func roundUp(d, step time.Duration) time.Duration {
	if d > math.MaxInt64-step {
		return d
	}
	return (d + step - 1) / step * step
}
