// Package monitoring checks the alerts and the dashboard of deploy/monitoring with
// Prometheus's own parsers, and against docs/operations.md. Prometheus's module is large,
// so this one is outside the workspace.
package monitoring

import (
	"encoding/json"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

const root = "../.."

// suffixes that Prometheus adds to the name of a histogram.
var suffixes = regexp.MustCompile(`_(bucket|sum|count)$`)

func TestRules(t *testing.T) {
	groups, errs := rulefmt.ParseFile(filepath.Join(root, "deploy/monitoring/rules.yaml"), false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
	for _, err := range errs {
		t.Error(err)
	}
	if groups == nil {
		t.FailNow()
	}
	docs := operations(t)
	seen := 0
	for _, group := range groups.Groups {
		for _, rule := range group.Rules {
			seen++
			if !strings.Contains(docs, "\n### "+rule.Alert+"\n") {
				t.Errorf("docs/operations.md has no heading %s", rule.Alert)
			}
			if want := "#" + strings.ToLower(rule.Alert); !strings.HasSuffix(rule.Annotations["runbook_url"], want) {
				t.Errorf("%s: runbook_url %q does not end in %s", rule.Alert, rule.Annotations["runbook_url"], want)
			}
			documented(t, rule.Alert, rule.Expr)
		}
	}
	if headings := strings.Count(docs, "\n### Orkestra"); headings != seen {
		t.Errorf("docs/operations.md has %d runbooks for %d alerts", headings, seen)
	}
}

func TestDashboard(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(root, "deploy/monitoring/dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			ID      int
			Title   string
			Targets []struct{ Expr string }
			GridPos struct{ X, Y, W, H int }
		}
	}
	if err := json.Unmarshal(data, &dashboard); err != nil {
		t.Fatal(err)
	}
	ids := map[int]bool{}
	for i, p := range dashboard.Panels {
		if ids[p.ID] {
			t.Errorf("panel %q has the id of another: %d", p.Title, p.ID)
		}
		ids[p.ID] = true
		if len(p.Targets) == 0 {
			t.Errorf("panel %q shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			documented(t, "panel "+p.Title, target.Expr)
		}
		for _, q := range dashboard.Panels[:i] {
			a, b := p.GridPos, q.GridPos
			if a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H {
				t.Errorf("panel %q is on top of %q", p.Title, q.Title)
			}
		}
	}
	if len(ids) == 0 {
		t.Error("the dashboard is empty")
	}
}

// documented parses expr, and fails where a metric of it is not in docs/operations.md.
func documented(t *testing.T, who, expr string) {
	t.Helper()
	parsed, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	if err != nil {
		t.Errorf("%s: %v", who, err)
		return
	}
	docs := operations(t)
	names := map[string]bool{}
	parser.Inspect(parsed, func(node parser.Node, _ []parser.Node) error {
		if selector, ok := node.(*parser.VectorSelector); ok {
			for _, m := range selector.LabelMatchers {
				if m.Name == model.MetricNameLabel && m.Type == labels.MatchEqual {
					names[suffixes.ReplaceAllString(m.Value, "")] = true
				}
			}
		}
		return nil
	})
	if len(names) == 0 {
		t.Errorf("%s: no metric in %s", who, expr)
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		ours := strings.HasPrefix(name, "orkestra_") && !strings.HasPrefix(name, "orkestra_audit_")
		if ours && !strings.Contains(docs, "| `"+name+"` |") {
			t.Errorf("%s: metric %s is not in the table of docs/operations.md", who, name)
		}
	}
}

func operations(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, "docs/operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
