package prices

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func book(tb testing.TB, content string) *Book {
	tb.Helper()
	path := ""
	if content != "" {
		path = filepath.Join(tb.TempDir(), "prices.json")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	b, err := Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

const own = `{"tables": [
	{"platform": "aws", "regions": ["eu-south-2"], "as_of": "2026-05-02", "source": "the invoice", "usd_per_request": 0.0000003,
	 "architectures": {"x64": {"tiers": [{"up_to_gb_seconds": 10, "usd_per_gb_second": 0.5}, {"usd_per_gb_second": 0.25}]}}},
	{"platform": "aws", "regions": ["us-west-2"], "as_of": "2026-05-02", "usd_per_request": 0,
	 "architectures": {"arm64": {"tiers": [{"usd_per_gb_second": 0.125}]}}},
	{"platform": "local", "as_of": "2026-05-02", "usd_per_request": 0,
	 "architectures": {"x64": {"tiers": [{"usd_per_gb_second": 0.001}]}, "arm64": {"tiers": [{"usd_per_gb_second": 0.001}]}}}
]}`

func TestFind(t *testing.T) {
	t.Parallel()
	const x64, arm64 = 0.0000166667, 0.0000133334
	for _, c := range []struct {
		file, platform, region, architecture string
		usd                                  float64
		priced                               string
		estimated, custom                    bool
	}{
		{"", "aws", "us-east-1", "x64", x64, "aws us-east-1 x64", false, false},
		{"", "aws", "eu-west-1", "arm64", arm64, "aws eu-west-1 arm64", false, false},
		{"", "aws", "mars-north-1", "arm64", arm64, "aws us-east-1 arm64", true, false},
		{"", "aws", "", "x64", x64, "aws us-east-1 x64", true, false},
		{"", "aws", "us-east-1", "", x64, "aws us-east-1 x64", true, false},
		{"", "aws", "us-east-1", "riscv", x64, "aws us-east-1 x64", true, false},
		{"", "local", "", "arm64", arm64, "aws us-east-1 arm64", true, false},
		{"", "gcp", "us-east-1", "x64", x64, "aws us-east-1 x64", true, false},
		{own, "aws", "eu-south-2", "x64", 0.5, "aws eu-south-2 x64", false, true},
		{own, "aws", "eu-south-2", "arm64", arm64, "aws us-east-1 arm64", true, false},
		{own, "aws", "us-west-2", "arm64", 0.125, "aws us-west-2 arm64", false, true},
		{own, "aws", "us-west-2", "x64", x64, "aws us-west-2 x64", false, false},
		{own, "local", "", "x64", 0.001, "local  x64", false, true},
		{own, "local", "here", "arm64", 0.001, "local  arm64", false, true},
	} {
		p := book(t, c.file).Find(c.platform, c.region, c.architecture)
		priced := strings.Join([]string{p.Platform, p.Region, p.Architecture}, " ")
		if p.Tiers[0].USDPerGBSecond != c.usd || priced != c.priced || p.Estimated != c.estimated || p.Custom != c.custom {
			t.Errorf("%s %s %s: got %v of %s, estimated %t, custom %t; want %v", c.platform, c.region, c.architecture, p.Tiers[0], priced, p.Estimated, p.Custom, c)
		}
		if p.AsOf == "" {
			t.Errorf("%s %s %s: the price has no date", c.platform, c.region, c.architecture)
		}
	}
}

func TestFindParts(t *testing.T) {
	t.Parallel()
	b := book(t, "")
	if p := b.Find("aws", "us-east-1", "x64"); p.Storage != (Part{USD: 0.0000000309}) || p.Provisioned != (Part{USD: 0.0000041667}) {
		t.Errorf("us-east-1 has %+v and %+v", p.Storage, p.Provisioned)
	}
	if p := b.Find("aws", "eu-west-1", "arm64"); p.Estimated || p.Provisioned != (Part{USD: 0.0000033334, Estimated: true}) ||
		p.ProvisionedDuration != (Part{USD: 0.0000077778, Estimated: true}) {
		t.Errorf("eu-west-1 has %+v and %+v, estimated %t", p.Provisioned, p.ProvisionedDuration, p.Estimated)
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	var got []string
	for _, p := range book(t, own).List("aws") {
		name := p.Region + "/" + p.Architecture
		if p.Custom {
			name += "*"
		}
		got = append(got, name)
		if p.Estimated {
			t.Errorf("the price of %s is listed as an estimate", name)
		}
	}
	const want = "ap-southeast-1/x64 ap-southeast-1/arm64 eu-south-2/x64* eu-west-1/x64 eu-west-1/arm64 us-east-1/x64 us-east-1/arm64 us-east-2/x64 us-east-2/arm64 us-west-2/arm64* us-west-2/x64"
	if text := strings.Join(got, " "); text != want {
		t.Errorf("the list is %s\nand has to be %s", text, want)
	}
	if b := book(t, ""); len(b.List("local")) != 0 || len(b.List("moon")) != 0 {
		t.Error("platforms without prices have some")
	}
}

func TestCost(t *testing.T) {
	t.Parallel()
	b := book(t, "")
	x64, arm64 := b.Find("aws", "us-east-1", "x64"), b.Find("aws", "us-east-1", "arm64")
	for _, c := range []struct {
		price     *Price
		gbSeconds float64
		requests  int64
		usd       float64
		tier      int
	}{
		{&x64, 0, 0, 0, 1},
		{&x64, 0, 1e6, 0.2, 1},
		// AWS's own example of its page of prices: three million requests of 120 ms at 1,536 MB.
		{&x64, 540_000, 3e6, 9.00 + 0.60, 1},
		{&x64, 6e9, 0, 100_000.2, 1},
		{&x64, 6e9 + 1000, 0, 100_000.2 + 0.015, 2},
		{&x64, 15e9, 0, 100_000.2 + 135_000, 2},
		{&x64, 16e9, 0, 100_000.2 + 135_000 + 13_333.4, 3},
		{&arm64, 7.5e9, 0, 100_000.5, 1},
		{&arm64, 18.75e9, 0, 100_000.5 + 135_001.125, 2},
		{&arm64, 20e9, 0, 100_000.5 + 135_001.125 + 13_333.375, 3},
	} {
		if usd := c.price.Cost(c.gbSeconds, c.requests); math.Abs(usd-c.usd) > 1e-4*max(1, c.usd/1e4) {
			t.Errorf("%v GB-seconds and %d requests on %s cost %v instead of %v", c.gbSeconds, c.requests, c.price.Architecture, usd, c.usd)
		}
		if tier := c.price.Tier(c.gbSeconds); tier != c.tier {
			t.Errorf("%v GB-seconds reach tier %d instead of %d", c.gbSeconds, tier, c.tier)
		}
	}
}

func TestEstimate(t *testing.T) {
	t.Parallel()
	b := book(t, "")
	virginia, ireland := b.Find("aws", "us-east-1", "x64"), b.Find("aws", "eu-west-1", "x64")
	for name, c := range map[string]struct {
		price *Price
		usage Usage
		want  Estimate
	}{
		"nothing": {&virginia, Usage{MemoryMB: 128}, Estimate{}},
		"rounded up to a millisecond": {
			&virginia, Usage{Invocations: 1000, Duration: 999_001 * time.Microsecond, MemoryMB: 512},
			Estimate{Requests: 0.0002, Compute: 500 * 0.0000166667, GBSeconds: 500, Billed: time.Second},
		},
		"storage that is free": {
			&virginia, Usage{Invocations: 10, Duration: time.Second, MemoryMB: 1024, StorageMB: 512},
			Estimate{Requests: 0.000002, Compute: 10 * 0.0000166667, GBSeconds: 10, Billed: time.Second},
		},
		"storage": {
			&virginia, Usage{Invocations: 10, Duration: time.Second, MemoryMB: 1024, StorageMB: 2560},
			Estimate{Requests: 0.000002, Compute: 10 * 0.0000166667, GBSeconds: 10, Billed: time.Second, Storage: 20 * 0.0000000309},
		},
		"provisioned": {
			&virginia, Usage{Invocations: 10, Duration: time.Second, MemoryMB: 1024, ProvisionedConcurrency: 2, ProvisionedTime: 301 * time.Second},
			Estimate{Requests: 0.000002, Compute: 10 * 0.0000097222, GBSeconds: 10, Billed: time.Second, Provisioned: 2 * 600 * 0.0000041667},
		},
		"a region without that part": {
			&ireland, Usage{Invocations: 10, Duration: time.Second, MemoryMB: 1024, StorageMB: 1536},
			Estimate{Requests: 0.000002, Compute: 10 * 0.0000166667, GBSeconds: 10, Billed: time.Second, Storage: 10 * 0.0000000309, Estimated: true},
		},
		"a region that knows it all": {
			&ireland, Usage{Invocations: 1, MemoryMB: 128}, Estimate{Requests: 0.0000002},
		},
	} {
		got := c.price.Estimate(c.usage)
		near := func(a, b float64) bool { return math.Abs(a-b) < 1e-12 }
		if !near(got.Requests, c.want.Requests) || !near(got.Compute, c.want.Compute) || !near(got.Storage, c.want.Storage) ||
			!near(got.Provisioned, c.want.Provisioned) || got.GBSeconds != c.want.GBSeconds || got.Billed != c.want.Billed || got.Estimated != c.want.Estimated {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
		if !near(got.Total(), c.want.Requests+c.want.Compute+c.want.Storage+c.want.Provisioned) {
			t.Errorf("%s: the total is %v", name, got.Total())
		}
	}
}

func TestFaultyFiles(t *testing.T) {
	t.Parallel()
	table := func(fields string) string {
		return `{"tables": [{"platform": "aws", "as_of": "2026-05-02", "usd_per_request": 0, ` + fields + `}]}`
	}
	const fine = `"architectures": {"x64": {"tiers": [{"usd_per_gb_second": 1}]}}`
	if _, err := parse([]byte(table(fine))); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ file, says string }{
		"no JSON":         {"prices", "invalid character"},
		"empty":           {"{}", "tables is empty"},
		"null":            {`{"tables": [null]}`, "tables[0] is null"},
		"unknown field":   {table(`"price": 1, ` + fine), `unknown field "price"`},
		"more":            {table(fine) + "{}", "more after the tables"},
		"platform":        {strings.Replace(table(fine), "aws", "moon", 1), "tables[0].platform is \"moon\""},
		"day":             {strings.Replace(table(fine), "2026-05-02", "May", 1), "tables[0].as_of is \"May\""},
		"no request fee":  {strings.Replace(table(fine), `"usd_per_request": 0, `, "", 1), "tables[0].usd_per_request is missing"},
		"negative":        {strings.Replace(table(fine), `"usd_per_request": 0`, `"usd_per_request": -1`, 1), "usd_per_request is -1"},
		"not in dollars":  {table(`"architectures": {"x64": {"tiers": [{"usd_per_gb_second": 16.6667}]}}`), "architectures.x64.tiers[0].usd_per_gb_second is 16.6667"},
		"architecture":    {table(`"architectures": {"x86_64": {"tiers": [{"usd_per_gb_second": 1}]}}`), "architectures.x86_64 is no architecture"},
		"no architecture": {table(`"regions": ["a"]`), "architectures is empty"},
		"no tiers":        {table(`"architectures": {"x64": {}}`), "architectures.x64.tiers is empty"},
		"tiers that fall": {table(`"architectures": {"x64": {"tiers": [{"up_to_gb_seconds": 2, "usd_per_gb_second": 1}, {"up_to_gb_seconds": 1, "usd_per_gb_second": 1}, {"usd_per_gb_second": 1}]}}`), "tiers[1].up_to_gb_seconds is 1"},
		"tiers that end":  {table(`"architectures": {"x64": {"tiers": [{"up_to_gb_seconds": 2, "usd_per_gb_second": 1}]}}`), "tiers[0].up_to_gb_seconds must be left out"},
		"twice":           {table(`"regions": ["a", "a"], ` + fine), `both price region "a"`},
		"empty region":    {table(`"regions": [""], ` + fine), "regions has an empty name"},
	} {
		if _, err := parse([]byte(c.file)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: the error is %v and has to say %s", name, err, c.says)
		}
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none.json")); err == nil || !strings.Contains(err.Error(), "none.json") {
		t.Errorf("a file that is not there gives %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(string(embedded))
	f.Add(own)
	f.Add(`{"tables": [{"regions": ["", "a"], "architectures": {"x64": null}}, null]}`)
	f.Fuzz(func(t *testing.T, content string) {
		tables, err := parse([]byte(content))
		if err != nil {
			return
		}
		b := &Book{custom: tables}
		if b.embedded, err = parse(embedded); err != nil {
			t.Fatal(err)
		}
		for _, table := range tables {
			for _, p := range b.List(table.Platform) {
				if usd := p.Cost(1e12, 1e9); usd < 0 || math.IsNaN(usd) {
					t.Errorf("the cost is %v", usd)
				}
			}
		}
		if _, err := json.Marshal(file{Tables: tables}); err != nil {
			t.Error(err)
		}
	})
}
