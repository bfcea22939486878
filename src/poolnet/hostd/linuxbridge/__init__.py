"""The Linux bridge as the data plane of a host: bridges, 802.1Q devices and bonds of the kernel, locks in nftables."""
