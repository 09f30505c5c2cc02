package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/sebs-suite/sebs/internal/errs"
	"github.com/sebs-suite/sebs/platform/nosql"

	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
)

// Table is a table of a deployment.
type Table struct {
	nosql.Schema
	deployment deployment
	benchmark  string
	logical    string
	created    bool
}

// tables opens the table store of a deployment.
func (s *Service) tables(ctx context.Context, d deployment) (Platform, *Tables, error) {
	p, err := s.platform(d.platform)
	if err != nil {
		return Platform{}, nil, err
	}
	if p.Tables == nil {
		return Platform{}, nil, errs.Unimplemented("TABLES_NOT_SUPPORTED", "platform %q has no tables", d.platform).With("platform", d.platform)
	}
	scope, err := s.scope(ctx, p, d)
	if err != nil {
		return Platform{}, nil, err
	}
	t, err := p.Tables(ctx, scope)
	if err != nil {
		return Platform{}, nil, fmt.Errorf("open the table store of platform %s: %w", d.platform, err)
	}
	return p, t, nil
}

// noTables tells whether a platform's deployments cannot have tables, without starting the table store to find out.
func (s *Service) noTables(platform string) (bool, error) {
	p, err := s.platform(platform)
	if err != nil {
		return false, err
	}
	return p.Tables == nil || (p.TablesUnused != nil && p.TablesUnused()), nil
}

// ownTable checks that a table's name is one of the deployment's.
func ownTable(d deployment, table string) error {
	if !strings.HasPrefix(table, tablePrefix(d.id)) {
		return errs.Fields(errs.Field("name", "table %q does not belong to deployment %s; its tables start with %s", table, d.id, tablePrefix(d.id)))
	}
	return nil
}

// createTable makes one table of a benchmark, or keeps one that is there with the same keys.
func (s *Service) createTable(ctx context.Context, d deployment, benchmark, logical, primary, secondary string) (Table, error) {
	_, t, err := s.tables(ctx, d)
	if err != nil {
		return Table{}, err
	}
	table := Table{
		Schema:     nosql.Schema{Table: tablePrefix(d.id) + benchmark + "-" + logical, Primary: primary, Secondary: secondary},
		deployment: d, benchmark: benchmark, logical: logical,
	}
	table.created, err = t.Store.CreateTable(ctx, table.Schema, map[string]string{"sebs:deployment": d.id, "sebs:benchmark": benchmark})
	if err != nil {
		return Table{}, err
	}
	return table, s.recordTables(ctx, table)
}

// tableSpec is what a benchmark wants of one table.
type tableSpec struct{ logical, primary, secondary string }

// createBenchmarkTables makes those tables of a benchmark that are missing.
func (s *Service) createBenchmarkTables(ctx context.Context, d deployment, benchmark string, specs []tableSpec) ([]Table, error) {
	out := make([]Table, 0, len(specs))
	for _, spec := range specs {
		t, err := s.createTable(ctx, d, benchmark, spec.logical, spec.primary, spec.secondary)
		if err != nil {
			return nil, fmt.Errorf("table %s of benchmark %s: %w", spec.logical, benchmark, err)
		}
		out = append(out, t)
	}
	return out, nil
}

// recordTables binds tables in the deployment's record, so that their logical names can be told later.
func (s *Service) recordTables(ctx context.Context, tables ...Table) error {
	return s.updateRecord(ctx, tables[0].deployment, func(rec *typev1.Deployment) {
		for _, t := range tables {
			binding := &typev1.TableBinding{Benchmark: t.benchmark, LogicalName: t.logical, Table: t.Table, PrimaryKey: t.Primary, SecondaryKey: t.Secondary}
			i := slices.IndexFunc(rec.GetTables(), func(b *typev1.TableBinding) bool { return b.GetTable() == t.Table })
			if i < 0 {
				rec.Tables = append(rec.Tables, binding)
			} else {
				rec.Tables[i] = binding
			}
		}
	})
}

func (s *Service) dropTables(ctx context.Context, d deployment, names ...string) error {
	return s.updateRecord(ctx, d, func(rec *typev1.Deployment) {
		rec.Tables = slices.DeleteFunc(rec.GetTables(), func(b *typev1.TableBinding) bool { return slices.Contains(names, b.GetTable()) })
	})
}

// bindings reads the recorded tables of a deployment by real name.
func (s *Service) bindings(ctx context.Context, p Platform, d deployment) (map[string]*typev1.TableBinding, error) {
	out := map[string]*typev1.TableBinding{}
	if !p.Recorded {
		return out, nil
	}
	var rec typev1.Deployment
	if _, err := s.records.Get(ctx, d.record(), &rec); err != nil {
		if errs.Is(err, codes.NotFound) {
			return out, nil
		}
		return nil, fmt.Errorf("read deployment %s: %w", d.id, err)
	}
	for _, b := range rec.GetTables() {
		out[b.GetTable()] = b
	}
	return out, nil
}

// listTables returns the deployment's tables that exist, by name; of one benchmark when it is given. Names of
// benchmarks and tables come from the record; without one they are read from the table's name, where a benchmark's
// name ends at the last dash.
func (s *Service) listTables(ctx context.Context, d deployment, benchmark string) ([]Table, error) {
	if none, err := s.noTables(d.platform); none || err != nil {
		return nil, err
	}
	p, t, err := s.tables(ctx, d)
	if err != nil {
		return nil, err
	}
	known, err := s.bindings(ctx, p, d)
	if err != nil {
		return nil, err
	}
	names, err := t.Store.ListTables(ctx, tablePrefix(d.id))
	if err != nil {
		return nil, err
	}
	var out []Table
	for _, name := range names {
		table := named(d, name, known[name])
		if benchmark != "" && table.benchmark != benchmark {
			rest, ok := strings.CutPrefix(name, tablePrefix(d.id)+benchmark+"-")
			if known[name] != nil || !ok {
				continue
			}
			table.benchmark, table.logical = benchmark, rest
		}
		out = append(out, table)
	}
	return out, nil
}

// named describes a table from its binding or its name.
func named(d deployment, name string, b *typev1.TableBinding) Table {
	t := Table{Schema: nosql.Schema{Table: name}, deployment: d}
	if b != nil {
		t.benchmark, t.logical, t.Primary, t.Secondary = b.GetBenchmark(), b.GetLogicalName(), b.GetPrimaryKey(), b.GetSecondaryKey()
		return t
	}
	rest := strings.TrimPrefix(name, tablePrefix(d.id))
	if i := strings.LastIndexByte(rest, '-'); i > 0 {
		t.benchmark, t.logical = rest[:i], rest[i+1:]
	}
	return t
}

// getTable describes one table.
func (s *Service) getTable(ctx context.Context, d deployment, name string) (Table, error) {
	p, t, err := s.tables(ctx, d)
	if err != nil {
		return Table{}, err
	}
	if err := ownTable(d, name); err != nil {
		return Table{}, err
	}
	schema, err := t.Store.DescribeTable(ctx, name)
	if err != nil {
		return Table{}, err
	}
	known, err := s.bindings(ctx, p, d)
	if err != nil {
		return Table{}, err
	}
	table := named(d, name, known[name])
	table.Schema = schema
	return table, nil
}

// tableStore opens the store of a table after checking that the table is the deployment's.
func (s *Service) tableStore(ctx context.Context, d deployment, table string) (*nosql.Store, error) {
	if err := ownTable(d, table); err != nil {
		return nil, err
	}
	_, t, err := s.tables(ctx, d)
	if err != nil {
		return nil, err
	}
	return t.Store, nil
}

// deleteTable removes a table and its place in the record.
func (s *Service) deleteTable(ctx context.Context, d deployment, name string) error {
	store, err := s.tableStore(ctx, d, name)
	if err != nil {
		return err
	}
	if err := store.DeleteTable(ctx, name); err != nil {
		return err
	}
	return s.dropTables(ctx, d, name)
}

// cleanupTables removes the deployment's tables and returns their names. With dryRun nothing is removed.
func (s *Service) cleanupTables(ctx context.Context, d deployment, dryRun bool) ([]string, error) {
	if none, err := s.noTables(d.platform); none || err != nil {
		return nil, err
	}
	_, t, err := s.tables(ctx, d)
	if err != nil {
		return nil, err
	}
	names, err := t.Store.ListTables(ctx, tablePrefix(d.id))
	if err != nil || dryRun {
		return names, err
	}
	var removed []string
	var problems []error
	for _, n := range names {
		if err := t.Store.DeleteTable(ctx, n); err != nil && !errs.Is(err, codes.NotFound) {
			problems = append(problems, err)
			continue
		}
		removed = append(removed, n)
	}
	if len(removed) > 0 {
		problems = append(problems, s.dropTables(ctx, d, removed...))
	}
	return removed, errors.Join(problems...)
}
