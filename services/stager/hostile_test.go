package stager

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"text/template/parse"
	"time"

	"orkestra.dev/api/v1alpha1"
	"orkestra.dev/services/stager/internal/charttest"
	"orkestra.dev/services/stager/internal/lru"
	"orkestra.dev/services/stager/refusal"
	"orkestra.dev/services/stager/stage"
)

const (
	// What a hostile chart may cost: processor time of the whole process, which on a
	// machine with nothing else to do is more than the time that it takes, and memory.
	// A machine that takes longer than standard for yardstick has as many times as long: it took 230 ms on
	// two busy cores where the worst attack took 2.5 s. Where memory is slow and parsing is not, that says less: the worst
	// took 2.0 to 2.3 s with a yardstick as of the standard.
	hostileTime   = 3 * time.Second
	standard      = 120 * time.Millisecond
	hostileMemory = 256 << 20

	// envArchive has the test binary stage one archive and end.
	envArchive = "STAGER_TEST_ARCHIVE"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(envArchive); path != "" {
		stageOnly(path)
		return
	}
	os.Exit(m.Run())
}

// verdict on an archive.
type verdict struct {
	Reason, Message string
	// Memory is the most that the process ever had of it, in KiB.
	Memory int64
}

// stageOnly does with an archive what the stager does with one that it has fetched, in
// a process that does nothing else, so that what it costs can be seen from outside.
func stageOnly(path string) {
	data, err := os.ReadFile(path)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	s := &stager{
		registry: shelf{"shop": data}, charts: lru.New[*stage.Chart](64 << 20), slots: make(chan struct{}, splitting),
		log: slog.New(slog.DiscardHandler),
	}
	app := newGroup("one").Spec.Applications[0]
	app.Spec.Subcharts[0].Name = "db"
	_, err = s.prepareOne(context.Background(), &app, time.Time{})
	v := verdict{Reason: refusal.Reason(err)}
	if err != nil {
		v.Message = err.Error()
	}
	// getrusage would count what the process had before it became this one.
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	_, high, _ := strings.Cut(string(status), "VmHWM:")
	if _, err := fmt.Sscan(high, &v.Memory); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(v); err != nil {
		os.Exit(1)
	}
}

// files of a chart called shop with a subchart db, and more.
func shop(more ...any) []any {
	return append([]any{
		"shop/Chart.yaml", "{apiVersion: v2, name: shop, version: 1.0.0}",
		"shop/charts/db/Chart.yaml", "{apiVersion: v2, name: db, version: 0.1.0}",
		"shop/templates/cm.yaml", "{apiVersion: v1, kind: ConfigMap, metadata: {name: shop}}",
	}, more...)
}

// called is a chart whose Chart.yaml is given.
func called(chartYAML string) []any {
	return append([]any{"shop/Chart.yaml", chartYAML}, shop()[2:]...)
}

func many(n int, entry func(i int) (name, body string)) []any {
	var out []any
	for i := range n {
		name, body := entry(i)
		out = append(out, name, body)
	}
	return out
}

// shipped is shop with what keeps the archive below the ratio, for attacks on those
// behind the scan's first look.
func shipped(more ...any) []any { return shop(append(more, "shop/files/noise", noise(64<<10))...) }

// noise does not compress.
func noise(n int) string {
	b := make([]byte, n)
	x := uint64(1)
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x)
	}
	return string(b)
}

type attack struct {
	// promise says what the attack is, and the vulnerability of Helm that was one.
	promise string
	archive func(t *testing.T) []byte
	// say is in the message; where it is empty, the archive is staged.
	say string
}

func raw(entries ...any) func(*testing.T) []byte {
	return func(t *testing.T) []byte { return charttest.Raw(t, entries...) }
}

// attacks on who reads the archive.
func archiveAttacks() map[string]attack {
	zeros := many(24, func(i int) (string, string) { return fmt.Sprintf("shop/files/%d", i), strings.Repeat("\x00", 5<<20) })
	link := func(kind byte, name, to string) *tar.Header {
		return &tar.Header{Typeflag: kind, Name: name, Linkname: to, Mode: 0o777}
	}
	return map[string]attack{
		"Harmless": {"a chart is staged: what the others are measured against", raw(shop()...), ""},
		"Bomb":     {"an archive that unpacks to 120 MiB (CVE-2025-32386)", raw(shop(zeros...)...), "times its size"},
		"NestedBomb": {"ten subcharts that are small and large, which Helm's own limit does not see", func(t *testing.T) []byte {
			inner := string(charttest.Raw(t, append([]any{"a/Chart.yaml", "{apiVersion: v2, name: a, version: 1.0.0}"}, zeros[:16]...)...))
			return charttest.Raw(t, shop(many(10, func(i int) (string, string) { return fmt.Sprintf("shop/charts/a%d.tgz", i), inner })...)...)
		}, "archive charts/a0.tgz unpacks to more than 200 times its size"},
		"SlowBomb": {"subcharts that stay below the ratio, and not in all", func(t *testing.T) []byte {
			inner := string(charttest.Raw(t, "a/Chart.yaml", "{apiVersion: v2, name: a, version: 1.0.0}", "a/n", noise(64<<10), "a/z", strings.Repeat("\x00", 5<<20)))
			return charttest.Raw(t, shop(many(10, func(i int) (string, string) { return fmt.Sprintf("shop/charts/a%d.tgz", i), inner })...)...)
		}, "33554432 bytes in all"},
		"Nesting": {"archives in archives in archives", func(t *testing.T) []byte {
			data := charttest.Raw(t, shop()...)
			for range 100 {
				data = charttest.Raw(t, shop("shop/charts/a.tgz", string(data))...)
			}
			return data
		}, "nested more than 12 deep"},
		"FolderNesting": {"charts in charts, unpacked", raw(shop(many(9000, func(i int) (string, string) {
			return "shop/" + strings.Repeat("charts/a/", 31) + fmt.Sprint(i), ""
		})...)...), "nested more than 12 deep"},
		"ManyFiles":   {"more files than any chart has", raw(shop(many(20_000, func(i int) (string, string) { return fmt.Sprintf("shop/f/%d", i), "" })...)...), "more than 10000 files"},
		"MostFiles":   {"as many files as may be, with paths as long as may be", raw(shop(many(9_990, func(i int) (string, string) { return fmt.Sprintf("shop/%s/%d", strings.Repeat("f", 1000), i), "" })...)...), ""},
		"LockSymlink": {"a Chart.lock that is a link, for who writes it (CVE-2025-53547)", raw(shop(link(tar.TypeSymlink, "shop/Chart.lock", "/etc/profile"), "")...), "neither a file nor a directory"},
		"Symlink":     {"a link to what the machine has (CVE-2019-18658)", raw(shop(link(tar.TypeSymlink, "shop/files/a", "/etc/passwd"), "")...), "neither a file nor a directory"},
		"Hardlink":    {"a hard link", raw(shop(link(tar.TypeLink, "shop/files/a", "shop/Chart.yaml"), "")...), "neither a file nor a directory"},
		"Device":      {"a device", raw(shop(&tar.Header{Typeflag: tar.TypeChar, Name: "shop/zero", Devmajor: 1, Devminor: 5}, "")...), "neither a file nor a directory"},
		"Traversal":   {"a path that leaves (CVE-2020-4053)", raw(shop("shop/../../etc/cron.d/a", "x")...), "leaves the archive"},
		"Twice":       {"Chart.yaml twice, for who checks the one and reads the other (CVE-2020-15187)", raw(shop("shop/Chart.yaml", "{apiVersion: v2, name: evil, version: 1.0.0}")...), "there twice"},
		"Members":     {"a second gzip member", func(t *testing.T) []byte { return append(charttest.Raw(t, shop()...), charttest.Raw(t, shop()...)...) }, "follow the gzipped tar"},
		"LargeName":   {"a header of a megabyte", raw(shipped("shop/"+strings.Repeat("a", 1<<20-100), "")...), "path of"},
	}
}

// attacks on who loads the chart.
func chartAttacks() map[string]attack {
	deps := func(n int, of string) string {
		return "apiVersion: v2\nname: shop\nversion: 1.0.0\ndependencies:\n" + strings.Repeat(of, n)
	}
	same := many(400, func(i int) (string, string) {
		return fmt.Sprintf("shop/charts/a%d/Chart.yaml", i), fmt.Sprintf("{apiVersion: v2, name: a, version: 1.0.%d}", i)
	})
	return map[string]attack{
		"NameLeaves":   {"a chart whose name is a path (CVE-2024-25620)", raw(called("{apiVersion: v2, name: ../../shop, version: 1.0.0}")...), "is invalid"},
		"NameIsDots":   {"one whose name is a folder's (CVE-2026-35206)", raw(called("{apiVersion: v2, name: .., version: 1.0.0}")...), "is not allowed"},
		"VersionSpeak": {"a version that speaks to a terminal (CVE-2021-21303)", raw(called(`{apiVersion: v2, name: shop, version: "1.0.0\e[2J"}`)...), "version"},
		"AliasLeaves":  {"an alias that is a path (CVE-2020-15184)", raw(called("{apiVersion: v2, name: shop, version: 1.0.0, dependencies: [{name: db, version: '*', alias: ../../a}]}")...), "alias"},
		"NullEntries":  {"entries that are null (CVE-2025-55198)", raw(called("{apiVersion: v2, name: shop, version: 1.0.0, maintainers: [null], dependencies: [null], sources: [null], keywords: null, annotations: null}")...), "must not contain empty or null"},
		"NullImports":  {"imports of values that are none", raw(called("{apiVersion: v2, name: shop, version: 1.0.0, dependencies: [{name: db, version: '*', import-values: [null, 1, [], {child: {}, parent: 1}]}]}")...), ""},
		"OddTypes":     {"other types than are expected", raw(called("{apiVersion: 2, name: [shop], version: {}}")...), "Chart.yaml"},
		"NoChart":      {"a chart without a Chart.yaml", raw(shop()[2:]...), "Chart.yaml"},
		"NullValues":   {"values that are null, or no map, where charts have some", raw(shop("shop/values.yaml", "db: null\nglobal: []\n", "shop/charts/db/values.yaml", "null")...), ""},

		"Dependencies": {"many dependencies on many charts of one name", raw(append([]any{"shop/Chart.yaml", deps(20_000, "- {name: a, version: '>=1'}\n")}, append(shop()[2:], same...)...)...), "more than 2000 dependencies"},
		"LongRange":    {"a range of versions that is a megabyte long", raw(append([]any{"shop/Chart.yaml", deps(1, "- {name: a, version: '"+strings.Repeat(">=1.0.0 || ", 90_000)+">=2'}\n")}, append(shop()[2:], same...)...)...), "more than 2000 dependencies"},
		"SomeOfAll":    {"as many dependencies on as many charts as may be", raw(append([]any{"shop/Chart.yaml", deps(1, strings.Join(numbered(600, "- {name: a, version: '>=1 || >=2', alias: a%d}\n"), ""))}, append(shop()[2:], same...)...)...), "more than 10000 subcharts"},
		"SomeAliases":  {"fewer of them, which are taken apart", raw(append([]any{"shop/Chart.yaml", deps(1, strings.Join(numbered(20, "- {name: a, version: '1.0.%[1]d', alias: a%[1]d}\n"), ""))}, append(shop()[2:], same...)...)...), ""},
		"Imports": {"values that are imported again and again", raw(append([]any{
			"shop/Chart.yaml", deps(1, "- {name: db, version: '*', import-values: ["+strings.Repeat("data,", 5000)+"]}\n"),
			"shop/charts/db/values.yaml", "exports: {data: {" + strings.Join(numbered(10_000, "k%d: {}"), ",") + "}}",
		}, shop()[2:]...)...), "more than 2000 dependencies"},
		"ImportsOfItself": {"values that are imported into themselves, which overflows Helm's stack", raw(append([]any{
			"shop/Chart.yaml", deps(1, "- {name: db, version: '*', import-values: [{child: data.inner, parent: a}, {child: data, parent: a}]}\n"),
			"shop/charts/db/values.yaml", "data: {inner: {b: 1}, c: 2}",
		}, shop()[2:]...)...), "put values into themselves"},
		"ImportsMultiplied": {"values that each chart imports four times from the one in it", raw(append([]any{
			"shop/Chart.yaml", deps(1, "- {name: a, version: '*', import-values: ["+fourTimes+"]}\n"),
		}, append(shop()[2:], nested(10)...)...)...), "or multiply them"},

		"AliasBomb":         {"aliases of aliases of aliases, in Chart.yaml", raw(called("apiVersion: v2\nname: shop\nversion: 1.0.0\n" + laughs())...), "bytes in all"},
		"AliasBombValues":   {"in values.yaml", raw(shop("shop/values.yaml", laughs())...), "bytes in all"},
		"AliasBombRequired": {"in requirements.yaml", raw(shop("shop/requirements.yaml", laughs())...), "bytes in all"},
		"AliasedText":       {"a long text, a thousand times", raw(shipped("shop/values.yaml", "a: &a "+strings.Repeat("x", 1<<20)+"\nb: ["+strings.Repeat("*a,", 1000)+"]")...), "bytes in all"},
		"DeepYAML":          {"YAML that is nested 9,000 deep", raw(shop("shop/values.yaml", "a: "+strings.Repeat("[", 9000)+strings.Repeat("]", 9000))...), ""},
		"DeeperYAML":        {"and deeper", raw(shop("shop/charts/db/values.yaml", "a: "+strings.Repeat("[", 100_000))...), "max depth"},
		"WideYAML":          {"a value of nothing but empty lists", raw(shipped("shop/values.yaml", "a: ["+strings.Repeat("[],", 1<<20)+"]")...), "nodes in all"},
		"MostYAML": {"as much YAML as may be, in as many charts as that allows", raw(shop(many(20, func(i int) (string, string) {
			return fmt.Sprintf("shop/charts/v%d/values.yaml", i), "a: [" + strings.Repeat("a,", 7000) + "]"
		})...)...), "Chart.yaml file is missing"},
		"MostValues": {"the same where the charts are some", raw(shop(many(40, func(i int) (string, string) {
			if i%2 == 0 {
				return fmt.Sprintf("shop/charts/v%d/Chart.yaml", i), fmt.Sprintf("{apiVersion: v2, name: v%d, version: 1.0.0}", i)
			}
			return fmt.Sprintf("shop/charts/v%d/values.yaml", i-1), "a: [" + strings.Repeat("a,", 7000) + "]"
		})...)...), ""},
	}
}

// attacks on who reads templates and schemas.
func templateAttacks() map[string]attack {
	in := func(text string) func(*testing.T) []byte { return raw(shipped("shop/templates/evil.yaml", text)...) }
	lots := func(n, size int, text string) func(*testing.T) []byte {
		return raw(shipped(many(n, func(i int) (string, string) {
			return fmt.Sprintf("shop/templates/%d.yaml", i), strings.Repeat(text, size/len(text))
		})...)...)
	}
	return map[string]attack{
		"Forever":     {"a template that never ends: the stager renders none", in(`{{ range $i, $_ := until 1000000000 }}{{ range $j, $_ := until 1000000000 }}{{ end }}{{ end }}`), ""},
		"Gigabytes":   {"one that renders gigabytes", in(`{{ repeat 1000000000 "0123456789" }}`), ""},
		"Recursion":   {"one that calls itself", in(`{{ define "a" }}{{ include "a" . }}{{ end }}{{ include "a" . }}`), ""},
		"Resolves":    {"one that asks the network (CVE-2023-25165)", in(`{{ getHostByName "canary.example.org" }}`), ""},
		"DeepIf":      {"conditions in conditions, which end a parser", in(strings.Repeat("{{if a}}", 120_000) + strings.Repeat("{{end}}", 120_000)), "nests its actions"},
		"DeepElse":    {"a chain of conditions, which is the same", in("{{if a}}" + strings.Repeat("{{else if a}}", 100_000) + "{{end}}"), "nests its actions"},
		"DeepParens":  {"parentheses in parentheses", in("{{" + strings.Repeat("(", 900_000) + "a" + strings.Repeat(")", 900_000) + "}}"), "depth"},
		"Actions":     {"more actions than templates have", in(strings.Repeat("{{a}}", 1_000_000)), "of the templates are actions"},
		"MostActions": {"as many actions as may be", lots(4, 500<<10, "{{a}}"), ""},
		"MostQuoted":  {"as many actions as may be, each of a quoted text", lots(6, 5<<20-1000, "{{`"+strings.Repeat("x", 200)+"`}}"), ""},
		"QuotedText":  {"all that fits of texts in quotes", lots(6, 5<<20-1000, "{{`"+strings.Join(numbered(180_000, "line %d\n"), "")+"`}}"), ""},
		"QuotedLines": {"the same with quotes that are taken off", lots(6, 5<<20-1000, "{{\""+strings.Repeat("\\n", 1<<20)+"\"}}"), ""},
		"OneAction":   {"one action that is as long as may be", in("{{a" + strings.Repeat(" a", 1<<20-10) + "}}"), ""},
		"Pipeline":    {"one long pipeline", in("{{a" + strings.Repeat("|a", 1<<20-10) + "}}"), ""},
		"Text":        {"all that fits of text with some actions", lots(6, 5<<20-1000, strings.Join(numbered(100_000, "line %d\n"), "")+"{{a}}"), ""},

		"SchemaFile": {"a schema that reads a file of the machine (CVE-2025-55199)", raw(shop("shop/values.schema.json", `{"$ref": "file:///dev/zero"}`)...), "a file of the machine"},
		"SchemaDeep": {"a schema that ends who reads it (CVE-2025-32387)", raw(shipped("shop/values.schema.json", strings.Repeat(`{"items":`, 300_000)+"{}"+strings.Repeat("}", 300_000))...), "nested more than 256 deep"},
		"SchemaWide": {"a schema of five megabytes", raw(shipped("shop/values.schema.json", `{"$ref":"#","allOf":[`+strings.Repeat(`{"$ref":"a"},`, 400_000)+`{}]}`)...), "a file of the machine"},
		"SchemaNull": {"schemas that are odd (CVE-2022-23526)", raw(shop("shop/values.schema.json", `{"properties": null, "items": [null], "$ref": null, "definitions": []}`)...), ""},
	}
}

// attacks on who splits the chart.
func splitAttacks() map[string]attack {
	sub := func(i int) string { return fmt.Sprintf("shop/charts/s%d", i) }
	subs := func(n int) []any {
		return many(2*n, func(i int) (string, string) {
			if i%2 == 0 {
				return sub(i) + "/Chart.yaml", fmt.Sprintf("{apiVersion: v2, name: s%d, version: 1.0.0}", i)
			}
			return sub(i-1) + "/templates/a.yaml", "a: {{ .Values.a }}"
		})
	}
	return map[string]attack{
		"ManySubcharts": {"a thousand subcharts: the pieces' sum is their square", raw(shop(subs(1000)...)...), "are allowed"},
		"MostSubcharts": {"as many as may be", raw(shop(subs(200)...)...), ""},
		"LargePieces":   {"a chart that does not compress, with a hundred subcharts", raw(shop(append(subs(100), "shop/files/a", noise(4<<20), "shop/files/b", noise(4<<20))...)...), "are allowed"},
		"WholeNoise":    {"as large an archive as may be, with few subcharts", raw(shop(append(subs(3), "shop/files/a", noise(5<<20-1), "shop/files/b", noise(4<<20))...)...), ""},
		"WholeText": {"as large a chart as may be, with few subcharts", raw(shop(append(subs(3), many(6, func(i int) (string, string) {
			return fmt.Sprintf("shop/files/%d", i), strings.Repeat(noise(1000), 5<<10)
		})...)...)...), ""},
		"SameName": {"two subcharts of one name", raw(shop("shop/charts/x/Chart.yaml", "{apiVersion: v2, name: db, version: 0.2.0}")...), ""},
		"Cycle":    {"a subchart with the name of the chart", raw(shop("shop/charts/db/charts/shop/Chart.yaml", "{apiVersion: v2, name: shop, version: 1.0.0}")...), ""},
	}
}

// fourTimes are import-values of what a chart calls data, to four places in data.
const fourTimes = "{child: data, parent: data.a}, {child: data, parent: data.b}, {child: data, parent: data.c}, {child: data, parent: data.d}"

// nested are charts called a, one in the other, each with the data of the next four times.
func nested(levels int) []any {
	var out []any
	at := "shop"
	for level := range levels {
		at += "/charts/a"
		chart := "apiVersion: v2\nname: a\nversion: 1.0.0\n"
		if level < levels-1 {
			chart += "dependencies:\n- {name: a, version: '*', import-values: [" + fourTimes + "]}\n"
		}
		out = append(out, at+"/Chart.yaml", chart, at+"/values.yaml", "data: {x: 1}")
	}
	return out
}

// laughs is a billion of them.
func laughs() string {
	var b strings.Builder
	b.WriteString("a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n")
	for i := range 9 {
		fmt.Fprintf(&b, "a%d: &a%d [%s]\n", i+1, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i), 10), ","))
	}
	return b.String()
}

func numbered(n int, format string) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf(format, i)
	}
	return out
}

func TestHostileArchives(t *testing.T) {
	for _, attacks := range []map[string]attack{archiveAttacks(), chartAttacks(), templateAttacks(), splitAttacks()} {
		for name, a := range attacks {
			t.Run(name, func(t *testing.T) { a.mount(t, hostileTime) })
		}
	}
}

// run stages the archive once, and says what came of it and how much of a processor it took.
func (a attack) run(t *testing.T, self, path string) (v verdict, took time.Duration) {
	cmd := exec.CommandContext(t.Context(), self)
	var out, said bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), envArchive+"="+path), &out, &said
	err := cmd.Run()
	if err != nil || json.Unmarshal(out.Bytes(), &v) != nil {
		t.Fatalf("%s ends the process: %v\n%.3000s", a.promise, err, said.String())
	}
	return v, cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
}

// yardstick is the processor time of something that is always the same, and like what staging
// does: to parse a template.
func yardstick(t *testing.T) time.Duration {
	t.Helper()
	text := strings.Repeat("{{ if .Values.a }}a{{ else }}{{ .Values.b | quote }}{{ end }}\n", 20_000)
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	begin := used()
	if _, err := parse.Parse("yardstick", text, "{{", "}}", map[string]any{"quote": strconv.Quote}); err != nil {
		t.Fatal(err)
	}
	return used() - begin
}

// mount the attack in a process of its own, which may take that much of a processor.
func (a attack) mount(t *testing.T, most time.Duration) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "chart.tgz")
	data := a.archive(t)
	if len(data) > 10<<20 {
		t.Fatalf("the registry would not fetch %d bytes", len(data))
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	v, took := a.run(t, self, path)
	// What else the machine does makes it slower, and never faster.
	for range 2 {
		if took > most {
			most = max(most, time.Duration(float64(most)*float64(yardstick(t))/float64(standard)))
			_, again := a.run(t, self, path)
			took = min(took, again)
		}
	}
	memory := v.Memory << 10
	t.Logf("%d KiB: %s, %d MiB: %s", len(data)>>10, took, memory>>20, v.Message)
	switch {
	case a.say == "" && v.Reason != "":
		t.Errorf("%s is staged: %s", a.promise, v.Message)
	case a.say != "" && (v.Reason != v1alpha1.ReasonInvalidChart || !strings.Contains(v.Message, a.say)):
		t.Errorf("%s is refused: %q because of %q, want it to say %q", a.promise, v.Message, v.Reason, a.say)
	}
	if took > most || memory > hostileMemory {
		t.Errorf("%s: it took %s of processor time and %d MiB", a.promise, took, memory>>20)
	}
}
