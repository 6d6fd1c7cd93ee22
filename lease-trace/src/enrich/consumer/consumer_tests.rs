//! Consumers read off stacks as kernels have them.

use super::*;

/// What a stack of `function` or `function [module]` lines, innermost first, is read as.
fn consumer(stack: &str) -> (String, bool) {
    let frames = stack.lines().map(str::trim).filter(|line| !line.is_empty());
    let found = classify(frames.map(|line| match line.split_once(" [") {
        _ if line == "?" => None,
        Some((name, module)) => Some(Function {
            name,
            module: Some(module.trim_end_matches(']')),
        }),
        None => Some(Function {
            name: line,
            module: None,
        }),
    }));
    found.map_or_else(
        || ("nobody".to_owned(), false),
        |found| (found.name, found.rdma),
    )
}

fn name(stack: &str) -> String {
    consumer(stack).0
}

#[test]
fn io_uring_buffers() {
    let stack = "
        bpf_prog_58cf4ac8d1b5a1c0_pin_user_pages_fast_exit [bpf]
        bpf_trampoline_6442521943 [bpf]
        pin_user_pages_fast
        io_pin_pages
        io_sqe_buffer_register
        io_sqe_buffers_register
        __io_uring_register
        __do_sys_io_uring_register
        do_syscall_64
        entry_SYSCALL_64_after_hwframe";
    assert_eq!(consumer(stack), ("io_uring".to_owned(), false));
}

#[test]
fn io_uring_by_kretprobe() {
    let stack = "
        bpf_prog_58cf4ac8d1b5a1c0_pin_user_pages_exit [bpf]
        trace_call_bpf
        kretprobe_perf_func
        kretprobe_dispatcher
        rethook_trampoline_handler
        arch_rethook_trampoline_callback
        arch_rethook_trampoline
        io_sqe_buffers_register
        do_syscall_64";
    assert_eq!(name(stack), "io_uring");
}

#[test]
fn a_memory_region_of_soft_roce() {
    let stack = "
        bpf_trampoline_6442521943 [bpf]
        pin_user_pages_fast
        ib_umem_get [ib_uverbs]
        rxe_mr_init_user [rdma_rxe]
        rxe_reg_user_mr [rdma_rxe]
        ib_uverbs_reg_mr [ib_uverbs]
        ib_uverbs_write [ib_uverbs]
        vfs_write";
    assert_eq!(consumer(stack), ("rdma_rxe".to_owned(), true));
}

#[test]
fn a_memory_region_of_hardware() {
    let stack = "
        pin_user_pages_fast
        ib_umem_get_peer [ib_uverbs]
        mlx5_ib_reg_user_mr [mlx5_ib]
        ib_uverbs_reg_mr [ib_uverbs]";
    assert_eq!(consumer(stack), ("mlx5_ib".to_owned(), true));
    let built_in = stack.replace(" [ib_uverbs]", "").replace(" [mlx5_ib]", "");
    assert_eq!(consumer(&built_in), ("mlx5_ib".to_owned(), true));
}

#[test]
fn rdma_without_a_driver_frame() {
    let stack = "
        pin_user_pages_fast
        ib_umem_get [ib_uverbs]
        ib_uverbs_reg_mr [ib_uverbs]
        vfs_write";
    assert_eq!(consumer(stack), ("ib_uverbs".to_owned(), true));
}

#[test]
fn subsystems() {
    let cases = [
        ("xdp_umem_create\nxsk_setsockopt\n__sys_setsockopt", "xdp"),
        (
            "vaddr_get_pfns [vfio_iommu_type1]\nvfio_iommu_type1_ioctl [vfio_iommu_type1]",
            "vfio",
        ),
        (
            "pfn_reader_user_pin [iommufd]\niopt_map_pages [iommufd]",
            "iommufd",
        ),
        ("udmabuf_create\nudmabuf_ioctl", "udmabuf"),
        (
            "udmabuf_create [udmabuf]\nudmabuf_ioctl [udmabuf]",
            "udmabuf",
        ),
        ("process_vm_rw_single_vec\nprocess_vm_rw", "process_vm"),
        ("vhost_scsi_map_to_sgl [vhost_scsi]", "vhost"),
        (
            "sev_pin_memory [kvm_amd]\nsev_launch_update_data [kvm_amd]",
            "kvm_amd",
        ),
        ("gup_test_ioctl [gup_test]", "gup_test"),
        (
            "amdgpu_gem_userptr_ioctl [amdgpu]\ndrm_ioctl [drm]",
            "amdgpu",
        ),
    ];
    for (stack, expected) in cases {
        assert_eq!(name(&format!("pin_user_pages\n{stack}")), expected);
    }
}

#[test]
fn direct_io_is_not_the_file_system_nor_the_ring_that_asked_for_it() {
    let stack = "
        pin_user_pages_fast
        iov_iter_extract_user_pages
        iov_iter_extract_pages
        bio_iov_iter_get_pages
        iomap_dio_bio_iter
        __iomap_dio_rw
        iomap_dio_rw
        xfs_file_dio_write_aligned [xfs]
        io_write
        io_issue_sqe";
    assert_eq!(name(stack), "direct-io");
    let crypto = "pin_user_pages_fast\niov_iter_extract_pages\naf_alg_sendmsg [af_alg]";
    assert_eq!(name(crypto), "af_alg");
}

#[test]
fn an_unknown_caller_is_named_itself() {
    let stack = "__gup_longterm_locked\npin_user_pages\nfrob_map\nfrob_ioctl\ndo_syscall_64";
    assert_eq!(name(stack), "frob_map");
}

#[test]
fn machinery_alone_is_nobody() {
    assert_eq!(name("bpf_trampoline_1 [bpf]\n?\npin_user_pages"), "nobody");
    assert_eq!(name(""), "nobody");
}

#[test]
fn a_stack_is_read_through_the_symbol_table() {
    let kallsyms = "\
ffffffff81200000 T pin_user_pages_fast
ffffffff81200100 t io_pin_pages
ffffffff81200200 t io_sqe_buffer_register
ffffffff81200300 T frob_map
";
    let symbols = Symbols::parse(kallsyms.as_bytes(), "").expect("text in memory");
    let mut stack = [0; STACK_LEN];
    // The second is a call at the very end of io_pin_pages.
    stack[..2].copy_from_slice(&[0xffff_ffff_8120_0004, 0xffff_ffff_8120_0200]);
    let names: Vec<_> = functions(&symbols, &stack)
        .into_iter()
        .flatten()
        .map(|function| function.name)
        .collect();
    assert_eq!(names, ["pin_user_pages_fast", "io_pin_pages"]);
}
