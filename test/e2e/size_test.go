package e2e

import (
	"debug/elf"
	"path/filepath"
	"testing"

	"orkestra.dev/local/stack"
)

// loadedMiB is what the kernel maps of a program's file: its code, constants and tables. All of it can become
// resident, and how much of it does is the page cache's choice.
const (
	loadedMiB = 45
	// The compiler has Argo's validator, whose expressions call methods by name: the linker leaves out none.
	compilerLoadedMiB = 58
)

// A dependency that brings another tree along, or one more caller of methods by name, shows here first: each adds ten
// MiB and more to every service.
func TestProgramsAreSmall(t *testing.T) {
	for _, service := range append([]string{"auditor"}, stack.Services...) {
		t.Run(service, func(t *testing.T) {
			program, err := elf.Open(filepath.Join(env.stack.Bin, "orkestra-"+service))
			if err != nil {
				t.Fatal(err)
			}
			defer program.Close()
			var loaded uint64
			for _, p := range program.Progs {
				if p.Type == elf.PT_LOAD {
					loaded += p.Filesz
				}
			}
			most := uint64(loadedMiB << 20)
			if service == "compiler" {
				most = compilerLoadedMiB << 20
			}
			if loaded == 0 || loaded > most {
				t.Errorf("%.1f MiB of the program are loaded, want at most %d", float64(loaded)/(1<<20), most>>20)
			}
		})
	}
}
