package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sebs-suite/sebs/cli/output"
	authv1 "github.com/sebs-suite/sebs/gen/go/sebs/auth/v1"
	typev1 "github.com/sebs-suite/sebs/gen/go/sebs/type/v1"
)

// roleNames are the words of `token create --role`.
var roleNames = map[string]typev1.Role{
	"viewer": typev1.Role_ROLE_VIEWER, "operator": typev1.Role_ROLE_OPERATOR, "admin": typev1.Role_ROLE_ADMIN,
}

func (a *app) tokenCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "token", Short: "Create, list and revoke bearer tokens"}
	var role, description string
	var ttl time.Duration
	create := &cobra.Command{
		Use:   "create",
		Short: "Create a token; its secret is shown this once",
		Args:  cobra.NoArgs,
		RunE: a.call(func(c *call) error {
			value, err := enumByName("--role", role, roleNames)
			if err != nil {
				return err
			}
			request := &authv1.CreateTokenRequest{Role: value, Description: description}
			if ttl > 0 {
				request.Ttl = durationpb.New(ttl)
			}
			created, err := authv1.NewTokenServiceClient(c.conn).CreateToken(c.ctx, request)
			if err != nil {
				return err
			}
			c.show.Note("created %s with role %s", created.GetToken().GetName(), role)
			if c.format != output.Table {
				return output.Message(a.Stdout, c.format, created, nil)
			}
			_, err = fmt.Fprintln(a.Stdout, created.GetSecret())
			return err
		}),
	}
	create.Flags().StringVar(&role, "role", "viewer", "viewer, operator or admin")
	create.Flags().StringVar(&description, "description", "", "what the token is for")
	create.Flags().DurationVar(&ttl, "ttl", 0, "how long the token is good for; 0 means for ever")
	list := &cobra.Command{
		Use:   "list",
		Short: "List tokens",
		Args:  cobra.NoArgs,
		RunE: a.call(func(c *call) error {
			all := &authv1.ListTokensResponse{}
			for token := ""; ; {
				page, err := authv1.NewTokenServiceClient(c.conn).ListTokens(c.ctx, &authv1.ListTokensRequest{PageToken: token})
				if err != nil {
					return err
				}
				all.Tokens = append(all.Tokens, page.GetTokens()...)
				if token = page.GetNextPageToken(); token == "" {
					break
				}
			}
			return output.Message(a.Stdout, c.format, all, func() output.Rows { return tokenRows(all.GetTokens()) })
		}),
	}
	revoke := &cobra.Command{
		Use:   "revoke TOKEN",
		Short: "Revoke a token at once",
		Args:  cobra.ExactArgs(1),
		RunE: a.call(func(c *call) error {
			_, err := authv1.NewTokenServiceClient(c.conn).RevokeToken(c.ctx, &authv1.RevokeTokenRequest{Name: resource("tokens", c.args[0])})
			return err
		}),
	}
	cmd.AddCommand(create, list, revoke)
	return cmd
}

func tokenRows(tokens []*authv1.Token) output.Rows {
	rows := output.Rows{Header: []string{"TOKEN", "ROLE", "CREATED", "EXPIRES", "DESCRIPTION"}}
	for _, t := range tokens {
		rows.Lines = append(rows.Lines, []string{
			t.GetName(), strings.ToLower(strings.TrimPrefix(t.GetRole().String(), "ROLE_")), timeCell(t.GetCreateTime()),
			timeCell(t.GetExpireTime()), t.GetDescription(),
		})
	}
	return rows
}

// timeCell prints a time for a table; one that is not set is a dash.
func timeCell(t *timestamppb.Timestamp) string {
	if t == nil {
		return "-"
	}
	return t.AsTime().Local().Format(time.DateTime)
}
