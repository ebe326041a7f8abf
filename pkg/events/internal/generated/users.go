package generated

import (
	"fmt"
	"path/filepath"
	"strings"

	"orkestra.dev/pkg/events"
)

const usersHead = `# Generated from the table in pkg/events/permissions.go: who may say and hear what. README.md says how to use it.
# The environment of the server holds the public half of each user's NKey; one that is not there is no start.
accounts {
  ORKESTRA {
    jetstream: enabled
    users: [
`

const usersTail = `    ]
  }
}
`

// addUsers adds the accounts of a NATS server, to be included into its configuration.
func addUsers(files map[string][]byte) {
	var b strings.Builder
	b.WriteString(usersHead)
	for _, i := range events.Identities() {
		p := i.Permissions(events.DefaultTopology())
		fmt.Fprintf(&b, "      # %s: %s\n", i.Name, i.Description)
		fmt.Fprintf(&b, "      { nkey: $ORKESTRA_NKEY_%s, permissions: {\n        publish: {\n", strings.ToUpper(i.Name))
		subjects(&b, "allow", p.PublishAllow)
		subjects(&b, "deny", p.PublishDeny)
		b.WriteString("        }\n        subscribe: {\n")
		subjects(&b, "allow", p.SubscribeAllow)
		b.WriteString("        }\n      } }\n")
	}
	b.WriteString(usersTail)
	files[filepath.Join(Folders[1], "users.conf")] = []byte(b.String())
}

func subjects(b *strings.Builder, verb string, subjects []string) {
	if len(subjects) == 0 {
		return
	}
	fmt.Fprintf(b, "          %s: [\n", verb)
	for _, s := range subjects {
		fmt.Fprintf(b, "            %q\n", s)
	}
	b.WriteString("          ]\n")
}
