package verifier

import "strings"

// This file says which arguments of tracepoints are not what their types say: NULL at times, or an error number in place of a
// pointer (raw_tp_null_args in btf.c).

// nullArgs has four bits for each argument: the lowest says that it may be NULL, the next that it may be an error number, the third that
// it is not to be trusted.
type nullArgs uint64

func (n nullArgs) mayBeNull(arg int) bool { return n>>(4*arg)&1 != 0 }

func (n nullArgs) mayBeError(arg int) bool { return n>>(4*arg)&2 != 0 }

func (n nullArgs) untrusted(arg int) bool { return n>>(4*arg)&4 != 0 }

// laterTracepointNulls are those that are known since 6.18 only.
var laterTracepointNulls = map[string]nullArgs{"neigh_create": 0x4000, "sched_process_wait": 0x1, "signal_deliver": 0x20, "signal_generate": 0x20}

// rawTracepointNulls are those tracepoints, by name.
var rawTracepointNulls = func() map[string]nullArgs {
	all := map[string]nullArgs{}
	for mask, names := range map[nullArgs]string{
		0x1: "afs_protocol_error cachefiles_io_error cachefiles_mark_active cachefiles_mark_failed " +
			"cachefiles_mark_inactive cachefiles_ondemand_close cachefiles_ondemand_copen " +
			"cachefiles_ondemand_cread cachefiles_ondemand_fd_release cachefiles_ondemand_fd_write " +
			"cachefiles_ondemand_open cachefiles_ondemand_read cachefiles_prep_read cachefiles_rename " +
			"cachefiles_unlink cachefiles_vfs_error mm_collapse_huge_page_isolate mm_page_alloc " +
			"mm_page_alloc_zone_locked mm_page_pcpu_drain rxrpc_recvdata tmigr_update_events " +
			"xfs_blockgc_flush_all xfs_blockgc_start xfs_blockgc_stop xfs_blockgc_worker xfs_defer_add_item " +
			"xfs_defer_cancel_item xfs_defer_cancel_list xfs_defer_create_intent xfs_defer_finish_item " +
			"xfs_defer_isolate_paused xfs_defer_item_pause xfs_defer_item_unpause xfs_defer_pending_abort " +
			"xfs_defer_pending_finish xfs_defer_relog_intent xfs_fs_sync_fs xfs_inodegc_flush xfs_inodegc_push " +
			"xfs_inodegc_queue xfs_inodegc_start xfs_inodegc_stop xfs_inodegc_throttle xs_stream_read_data",
		0x10: "afs_flock_ev afs_make_fs_call afs_make_fs_call1 afs_make_fs_call2 afs_make_fs_calli " +
			"break_lease_block break_lease_noblock break_lease_unblock device_pm_callback_start " +
			"ext4_mballoc_discard ext4_mballoc_free fcntl_setlk flock_lock_inode folio_wait_writeback " +
			"generic_delete_lease hugetlbfs_alloc_inode locks_remove_posix mm_khugepaged_collapse_file " +
			"mm_khugepaged_scan_file mm_khugepaged_scan_pmd netfs_failure posix_lock_inode rxrpc_resend " +
			"sched_pi_setprio time_out_leases writeback_dirty_folio xfs_blockgc_free_space xfs_ioc_free_eofblocks " +
			"xprt_get_cong xprt_put_cong xprt_release_cong xprt_reserve_cong",
		0x11: "tcp_send_reset",
		0x100: "fib_table_lookup sched_stick_numa sched_swap_numa tcp_sendmsg_locked tegra_dma_tx_status " +
			"xfs_btree_overlapped_query_range xfs_btree_updkeys",
		0x201:   "cachefiles_lookup",
		0x1000:  "kfree_skb qdisc_dequeue",
		0x2000:  "mr_integ_alloc",
		0x10000: "host1x_cdma_push_gather xfs_map_blocks_alloc xfs_map_blocks_found",
	} {
		for _, n := range strings.Fields(names) {
			all[n] = mask
		}
	}
	return all
}()
