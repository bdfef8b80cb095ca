package skep

import (
	"strings"
	"testing"
)

type fileHandle struct{ ID, Right uint64 }

type dirHandle struct{ ID, Right uint64 }

type inner struct{ ID, Right uint64 }

type outer struct {
	In  inner
	Sum uint64
}

// TestTrustedTypes: a structure that one kfunc hands out does not pass for another Go type that a kfunc trusts, whatever the
// program calls it.
func TestTrustedTypes(t *testing.T) {
	handle, err := NewObject[fileHandle]()
	if err != nil {
		t.Fatal(err)
	}
	defer handle.Free()
	whole, err := NewObject[outer]()
	if err != nil {
		t.Fatal(err)
	}
	defer whole.Free()
	handle.Value().ID, whole.Value().In.ID = 77, 78
	var ks Kfuncs
	for name, k := range map[string]struct {
		fn    any
		flags KfuncFlags
	}{
		"file_get":  {func() *Object[fileHandle] { return handle }, KfuncAcquire | KfuncRetNull},
		"file_use":  {func(f *fileHandle) uint64 { return f.ID }, KfuncTrustedArgs},
		"file_put":  {func(*fileHandle) {}, KfuncRelease},
		"dir_use":   {func(d *dirHandle) uint64 { return d.ID }, KfuncTrustedArgs},
		"dir_put":   {func(*dirHandle) {}, KfuncRelease},
		"outer_get": {func() *Object[outer] { return whole }, KfuncAcquire | KfuncRetNull},
		"outer_put": {func(*outer) {}, KfuncRelease},
		"inner_use": {func(i *inner) uint64 { return i.ID }, KfuncTrustedArgs},
	} {
		if err := ks.Register(name, k.fn, k.flags); err != nil {
			t.Fatal(err)
		}
	}
	// the program: gets an object, uses it, puts it back
	src := func(decl, get, use, put string) string {
		return decl + "call " + get + "\nif r0 == 0 goto 1f\nr6 = r0\nr1 = r0\ncall " + use + "\nr7 = r0\nr1 = r6\ncall " + put +
			"\nr0 = r7\nexit\n1: r0 = 0\nexit\n"
	}
	const (
		x        = ".struct x { u64 id; u64 right; }\n"
		fileGet  = ".kfunc struct x *file_get() acquire ret_null\n"
		filePut  = ".kfunc void file_put(struct x *f) release\n"
		file     = x + fileGet + filePut
		useFile  = ".kfunc u64 file_use(struct x *f) trusted_args\n"
		useDir   = ".kfunc u64 dir_use(struct x *f) trusted_args\n"
		putDir   = ".kfunc void dir_put(struct x *f) release\n"
		getOuter = ".kfunc struct o *outer_get() acquire ret_null\n.kfunc void outer_put(struct o *o) release\n"
		outerOfI = ".struct i { u64 id; u64 right; }\n.struct o { struct i in; u64 sum; }\n" + getOuter
		outerOfX = ".struct o { struct x in; u64 sum; }\n" + getOuter
		useDirI  = ".kfunc u64 dir_use(struct i *i) trusted_args\n"
		useInner = ".kfunc u64 inner_use(struct i *i) trusted_args\n"
		useDirY  = ".struct y { u64 id; u64 right; }\n.kfunc u64 dir_use(struct y *f) trusted_args\n"
		twoTypes = ": the program's struct x is skep.dirHandle, and skep.fileHandle for kfunc file_get: two types need two names"
	)
	for _, c := range []struct {
		what, src, err string
		want           uint32
	}{
		{"the same type", src(file+useFile, "file_get", "file_use", "file_put"), "", 77},
		{"another type that is trusted", src(file+useDir, "file_get", "dir_use", "file_put"), "kfunc dir_use" + twoTypes, 0},
		{"another type that is released", src(x+fileGet+putDir+useFile, "file_get", "file_use", "dir_put"), "kfunc dir_put" + twoTypes, 0},
		{"another name", src(file+useDirY, "file_get", "dir_use", "file_put"),
			"expected pointer to STRUCT y but R1 has a pointer to STRUCT x", 0},
		{"a structure inside", src(outerOfI+useInner, "outer_get", "inner_use", "outer_put"), "", 78},
		{"another type for a structure inside", src(outerOfI+useDirI, "outer_get", "dir_use", "outer_put"),
			"kfunc dir_use: the program's struct i is skep.dirHandle, and skep.inner for kfunc outer_get", 0},
		{"one name for two objects", src(file+useFile+outerOfX, "file_get", "file_use", "file_put") +
			"call outer_get\nr1 = r0\ncall outer_put\n", "the program's struct x is skep.", 0},
	} {
		p, err := loadText(c.src, Options{Kfuncs: &ks})
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v, want %s", c.what, err, c.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		if got, _, err := p.Test(make([]byte, 64)); got != c.want || err != nil {
			t.Errorf("%s: %d, %v, want %d", c.what, got, err, c.want)
		}
		p.Close()
	}
}
