package helpers

import (
	"sync"

	"github.com/skep-bpf/skep/internal/rt"
)

// Kfunc is a kfunc of the kernel that is here for every program.
type Kfunc struct {
	Args int // how many arguments it takes
	fn   rt.Func

	once   sync.Once
	handle rt.Handle
}

// KfuncHandle finds such a kfunc by name: its handle and how many arguments it takes (lower.Env.Kfunc).
func KfuncHandle(name string) (h rt.Handle, args int, ok bool) {
	k := kfuncs[name]
	if k == nil {
		return 0, 0, false
	}
	k.once.Do(func() { k.handle = rt.Register(k.fn) })
	return k.handle, k.Args, true
}

// kfuncs are those that are here for every program; each file of a subject has their functions.
var kfuncs = map[string]*Kfunc{
	"bpf_dynptr_from_skb":        {Args: 3, fn: dynptrFromSkb},
	"bpf_dynptr_from_skb_rdonly": {Args: 3, fn: dynptrFromSkbReadOnly},
	"bpf_dynptr_from_xdp":        {Args: 3, fn: dynptrFromXDP},
	"bpf_dynptr_slice":           {Args: 4, fn: dynptrSlice},
	"bpf_dynptr_slice_rdwr":      {Args: 4, fn: dynptrSliceRdwr},
	"bpf_dynptr_adjust":          {Args: 3, fn: dynptrAdjust},
	"bpf_dynptr_is_null":         {Args: 1, fn: dynptrIsNull},
	"bpf_dynptr_is_rdonly":       {Args: 1, fn: dynptrIsReadOnly},
	"bpf_dynptr_size":            {Args: 1, fn: dynptrSize},
	"bpf_dynptr_clone":           {Args: 2, fn: dynptrClone},
	"bpf_dynptr_copy":            {Args: 5, fn: dynptrCopy},
	"bpf_dynptr_memset":          {Args: 4, fn: dynptrMemset},

	"bpf_wq_init":  {Args: 3, fn: wqInit},
	"bpf_wq_start": {Args: 2, fn: wqStart},

	"bpf_obj_drop_impl":         {Args: 2, fn: objDrop},
	"bpf_percpu_obj_drop_impl":  {Args: 2, fn: objDrop},
	"bpf_refcount_acquire_impl": {Args: 2, fn: refcountAcquire},
	"bpf_list_push_front_impl":  {Args: 4, fn: listPushFront},
	"bpf_list_push_back_impl":   {Args: 4, fn: listPushBack},
	"bpf_list_pop_front":        {Args: 1, fn: listPopFront},
	"bpf_list_pop_back":         {Args: 1, fn: listPopBack},
	"bpf_list_front":            {Args: 1, fn: listFront},
	"bpf_list_back":             {Args: 1, fn: listBack},
	"bpf_rbtree_add_impl":       {Args: 4, fn: treeAdd},
	"bpf_rbtree_remove":         {Args: 2, fn: treeRemove},
	"bpf_rbtree_first":          {Args: 1, fn: treeFirst},
	"bpf_rbtree_root":           {Args: 1, fn: treeRoot},
	"bpf_rbtree_left":           {Args: 2, fn: treeLeft},
	"bpf_rbtree_right":          {Args: 2, fn: treeRight},

	"bpf_res_spin_lock":              {Args: 1, fn: resLock},
	"bpf_res_spin_lock_irqsave":      {Args: 2, fn: resLock},
	"bpf_res_spin_unlock":            {Args: 1, fn: resUnlock},
	"bpf_res_spin_unlock_irqrestore": {Args: 2, fn: resUnlock},
}
