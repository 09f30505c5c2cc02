package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/sebs-suite/sebs/cli/exitcode"
	"github.com/sebs-suite/sebs/cli/output"
	deployerv1 "github.com/sebs-suite/sebs/gen/go/sebs/deployer/v1"
	storagev1 "github.com/sebs-suite/sebs/gen/go/sebs/storage/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
)

func (a *app) resourcesCommand() *cobra.Command {
	// SeBS's documentation says `resource clean`, its code `resources cleanup`; both work.
	cmd := &cobra.Command{Use: "resources", Aliases: []string{"resource"}, Short: "Find, list and remove what deployments own on a platform"}
	cmd.AddCommand(a.resourcesListCommand(), a.resourcesFindCommand(), a.resourcesRemoveCommand(), a.resourcesCleanupCommand(),
		a.resourcesExpireCommand())
	return cmd
}

// deployments lists the recorded deployments of a platform.
func deployments(c *call, platform string) ([]*typev1.Deployment, error) {
	var all []*typev1.Deployment
	for token := ""; ; {
		page, err := deployerv1.NewDeployerServiceClient(c.conn).ListDeployments(c.ctx, &deployerv1.ListDeploymentsRequest{Parent: "platforms/" + platform, PageToken: token})
		if err != nil {
			return nil, err
		}
		all = append(all, page.GetDeployments()...)
		if token = page.GetNextPageToken(); token == "" {
			return all, nil
		}
	}
}

func (a *app) resourcesListCommand() *cobra.Command {
	f := &commonFlags{}
	cmd := &cobra.Command{
		Use:       "list buckets|tables|functions|deployments|resource-groups",
		Short:     "List resources of a platform",
		Args:      cobra.ExactArgs(1),
		ValidArgs: []string{"buckets", "tables", "functions", "deployments", "resource-groups"},
		RunE: a.commonCall(f, nil, func(c *call, set *settings) error {
			names, err := resourceNames(c, set, c.args[0])
			if err != nil {
				return err
			}
			return a.printNames(c.format, c.args[0], names)
		}),
	}
	f.add(cmd, a)
	return cmd
}

// resourceNames lists the resources of one type.
func resourceNames(c *call, set *settings, kind string) ([]string, error) {
	if kind == "resource-groups" && set.platform != "azure" {
		return nil, exitcode.With(exitcode.Usage, fmt.Errorf("resource-groups exist on azure only; platform %s has buckets, tables, functions and deployments", set.platform))
	}
	if kind == "functions" {
		functions, err := listFunctions(c, set.platform)
		return namesOf(functions, func(f *typev1.Function) string { return f.GetName() }), err
	}
	owned, err := deployments(c, set.platform)
	if err != nil {
		return nil, err
	}
	switch kind {
	case "deployments":
		return namesOf(owned, func(d *typev1.Deployment) string { return d.GetName() }), nil
	case "buckets":
		return bucketNames(c, set.platform)
	case "tables":
		var names []string
		for _, d := range owned {
			for token := ""; ; {
				page, err := storagev1.NewStorageServiceClient(c.conn).ListTables(c.ctx, &storagev1.ListTablesRequest{Parent: d.GetName(), PageToken: token})
				if err != nil {
					return nil, err
				}
				names = append(names, namesOf(page.GetTables(), func(t *storagev1.Table) string { return t.GetTableId() })...)
				if token = page.GetNextPageToken(); token == "" {
					break
				}
			}
		}
		return names, nil
	}
	return nil, exitcode.With(exitcode.Usage, fmt.Errorf("%q is no type of resource; use buckets, tables, functions, deployments or resource-groups", kind))
}

// bucketNames lists the suite's buckets of a platform.
func bucketNames(c *call, platform string) ([]string, error) {
	var names []string
	for token := ""; ; {
		page, err := storagev1.NewStorageServiceClient(c.conn).ListBuckets(c.ctx, &storagev1.ListBucketsRequest{
			Parent: "platforms/" + platform + "/deployments/-", Prefix: "sebs-", PageToken: token,
		})
		if err != nil {
			return nil, err
		}
		names = append(names, namesOf(page.GetBuckets(), func(b *storagev1.Bucket) string { return b.GetBucketId() })...)
		if token = page.GetNextPageToken(); token == "" {
			return names, nil
		}
	}
}

func namesOf[T any](items []T, name func(T) string) []string {
	names := make([]string, 0, len(items))
	for _, item := range items {
		names = append(names, name(item))
	}
	return names
}

func (a *app) printNames(format output.Format, kind string, names []string) error {
	if format != output.Table {
		return output.Value(a.Stdout, format, map[string][]string{kind: names})
	}
	for _, name := range names {
		if _, err := fmt.Fprintln(a.Stdout, name); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) resourcesFindCommand() *cobra.Command {
	f := &commonFlags{}
	cmd := &cobra.Command{
		Use:   "find",
		Short: "Find deployments on the platform itself and record those that are missing here",
		Args:  cobra.NoArgs,
		RunE: a.commonCall(f, nil, func(c *call, set *settings) error {
			found, err := deployerv1.NewDeployerServiceClient(c.conn).FindDeployments(c.ctx, &deployerv1.FindDeploymentsRequest{
				Parent: "platforms/" + set.platform, Region: set.target.GetRegion(), Credential: set.target.GetCredential(),
			})
			if err != nil {
				return err
			}
			return output.Message(a.Stdout, c.format, found, func() output.Rows {
				rows := output.Rows{Header: []string{"DEPLOYMENT", "RECORDED NOW"}}
				for _, d := range found.GetDeployments() {
					rows.Lines = append(rows.Lines, []string{d.GetName(), fmt.Sprint(slices.Contains(found.GetRecorded(), d.GetResourcesId()))})
				}
				return rows
			})
		}),
	}
	f.add(cmd, a)
	return cmd
}

func (a *app) resourcesRemoveCommand() *cobra.Command {
	f := &commonFlags{}
	var wait, dryRun bool
	cmd := &cobra.Command{
		Use:   "remove buckets|resource-groups PREFIX",
		Short: "Remove resources whose name starts with a prefix",
		Args:  cobra.ExactArgs(2),
		RunE: a.commonCall(f, nil, func(c *call, set *settings) error {
			kind, prefix := c.args[0], c.args[1]
			if kind != "buckets" {
				_, err := resourceNames(c, set, kind)
				if err == nil {
					err = exitcode.With(exitcode.Usage, fmt.Errorf("%s are not removed by prefix; 'sebs resources cleanup' removes what a deployment owns", kind))
				}
				return err
			}
			names, err := bucketNames(c, set.platform)
			if err != nil {
				return err
			}
			names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasPrefix(n, prefix) })
			if !dryRun {
				for _, name := range names {
					_, err := storagev1.NewStorageServiceClient(c.conn).DeleteBucket(c.ctx, &storagev1.DeleteBucketRequest{
						Name: "platforms/" + set.platform + "/deployments/-/buckets/" + name, Force: true,
					})
					if err != nil {
						return err
					}
				}
			}
			return a.printNames(c.format, kind, names)
		}),
	}
	f.add(cmd, a)
	boolFlag(cmd, &wait, "wait", true, "wait until the resources are gone")
	boolFlag(cmd, &dryRun, "dry-run", false, "only list what would be removed")
	return cmd
}

func (a *app) resourcesCleanupCommand() *cobra.Command {
	f := &commonFlags{}
	var dryRun bool
	var resourceType string
	cmd := &cobra.Command{
		Use:     "cleanup [RESOURCES-ID]",
		Aliases: []string{"clean"},
		Short:   "Delete everything that a deployment owns",
		Long: `Delete the functions, triggers, buckets and tables of a deployment, and what else the platform has of it, such as roles,
APIs, log groups and image repositories, or with --dry-run list them. The platform itself is asked, so a deployment that is
no longer recorded is found as well; --region tells where it lies.

Without RESOURCES-ID the only deployment of the platform is taken, or the one that --resource-prefix names.`,
		Args: cobra.MaximumNArgs(1),
		RunE: a.commonCall(f, nil, func(c *call, set *settings) error {
			name, err := chooseDeployment(c, set, f.resourcePrefix)
			if err != nil {
				return err
			}
			deleted := &deployerv1.DeleteDeploymentResponse{Deleted: map[string]*deployerv1.ResourceList{}}
			client := deployerv1.NewDeployerServiceClient(c.conn)
			switch resourceType {
			case "functions":
				functions, err := client.CleanupFunctions(c.ctx, &deployerv1.CleanupFunctionsRequest{
					Parent: name, DryRun: dryRun, Region: set.target.GetRegion(), Credential: set.target.GetCredential(),
				})
				if err != nil {
					return err
				}
				deleted.Deleted["functions"] = &deployerv1.ResourceList{Resources: functions.GetFunctions()}
			case "":
				op, err := client.DeleteDeployment(c.ctx, &deployerv1.DeleteDeploymentRequest{
					Name: name, DryRun: dryRun, RequestId: uuid.NewString(), Region: set.target.GetRegion(), Credential: set.target.GetCredential(),
				})
				if err != nil {
					return err
				}
				if err := a.follow(c.ctx, c.s, c.show, op, deleted); err != nil {
					return err
				}
			default:
				return exitcode.With(exitcode.Usage, fmt.Errorf("--resource-type: %q is unknown; use functions, or leave it out to delete everything", resourceType))
			}
			return output.Message(a.Stdout, c.format, deleted, func() output.Rows { return deletedRows(deleted) })
		}),
	}
	f.add(cmd, a)
	boolFlag(cmd, &dryRun, "dry-run", false, "only list what would be deleted")
	cmd.Flags().StringVar(&resourceType, "resource-type", "", "only resources of this type: functions")
	return cmd
}

func (a *app) resourcesExpireCommand() *cobra.Command {
	f := &commonFlags{}
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "expire",
		Short: "Delete the deployments whose time (--ttl) is over",
		Args:  cobra.NoArgs,
		RunE: a.commonCall(f, nil, func(c *call, set *settings) error {
			op, err := deployerv1.NewDeployerServiceClient(c.conn).ExpireDeployments(c.ctx, &deployerv1.ExpireDeploymentsRequest{
				Parent: "platforms/" + set.platform, DryRun: dryRun, RequestId: uuid.NewString(),
				Region: set.target.GetRegion(), Credential: set.target.GetCredential(),
			})
			if err != nil {
				return err
			}
			expired := &deployerv1.ExpireDeploymentsResponse{}
			if err := a.follow(c.ctx, c.s, c.show, op, expired); err != nil {
				return err
			}
			if err := output.Message(a.Stdout, c.format, expired, func() output.Rows { return expiredRows(expired) }); err != nil {
				return err
			}
			for _, one := range expired.GetDeployments() {
				if one.GetProblem() != "" {
					return exitcode.With(exitcode.Partial, fmt.Errorf("not every deployment could be deleted; %s: %s", one.GetDeployment(), one.GetProblem()))
				}
			}
			return nil
		}),
	}
	f.add(cmd, a)
	boolFlag(cmd, &dryRun, "dry-run", false, "only list what would be deleted")
	return cmd
}

func expiredRows(expired *deployerv1.ExpireDeploymentsResponse) output.Rows {
	rows := output.Rows{Header: []string{"DEPLOYMENT", "EXPIRED", "TYPE", "RESOURCE"}}
	for _, one := range expired.GetDeployments() {
		when := one.GetExpireTime().AsTime().Local().Format(time.DateTime)
		if one.GetProblem() != "" {
			rows.Lines = append(rows.Lines, []string{one.GetDeployment(), when, "", one.GetProblem()})
		}
		for _, kind := range sortedKeys(one.GetDeleted()) {
			for _, name := range one.GetDeleted()[kind].GetResources() {
				rows.Lines = append(rows.Lines, []string{one.GetDeployment(), when, kind, name})
			}
		}
	}
	return rows
}

func chooseDeployment(c *call, set *settings, prefix string) (string, error) {
	if len(c.args) == 1 {
		return "platforms/" + set.platform + "/deployments/" + c.args[0], nil
	}
	owned, err := deployments(c, set.platform)
	if err != nil {
		return "", err
	}
	owned = slices.DeleteFunc(owned, func(d *typev1.Deployment) bool { return !strings.Contains(d.GetResourcesId(), prefix) })
	if len(owned) == 1 {
		return owned[0].GetName(), nil
	}
	if len(owned) == 0 {
		return "", exitcode.With(exitcode.NotFound, fmt.Errorf("platform %s has no recorded deployment; 'sebs resources find --deployment %s' looks for them", set.platform, set.platform))
	}
	return "", exitcode.With(exitcode.Usage, fmt.Errorf("platform %s has %d deployments; give the RESOURCES-ID: %s", set.platform, len(owned),
		oneOf(namesOf(owned, func(d *typev1.Deployment) string { return d.GetResourcesId() }))))
}

func deletedRows(deleted *deployerv1.DeleteDeploymentResponse) output.Rows {
	rows := output.Rows{Header: []string{"TYPE", "RESOURCE"}}
	for _, kind := range sortedKeys(deleted.GetDeleted()) {
		for _, name := range deleted.GetDeleted()[kind].GetResources() {
			rows.Lines = append(rows.Lines, []string{kind, name})
		}
	}
	return rows
}
