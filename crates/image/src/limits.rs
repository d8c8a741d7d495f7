//! How much of everything an archive or image may have. Reading stops at the first excess.

/// Bounds on untrusted input, all inclusive. The defaults admit every real image known to us with room to spare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Entries of one layer, and directories that their paths imply; each costs an inode.
    pub layer_entries: u64,
    /// Bytes of one layer, or of a whole image archive, after decompression.
    pub uncompressed_bytes: u64,
    /// Uncompressed bytes per compressed byte, looked at once [`Limits::ratio_free_bytes`] have come out.
    pub compression_ratio: u64,
    /// Uncompressed bytes up to which no ratio is enforced, so that small layers of zeros pass.
    pub ratio_free_bytes: u64,
    /// Bytes of an entry's path or link target. Not above 4,095 (`PATH_MAX` with its NUL).
    pub path_bytes: usize,
    /// Components of an entry's path.
    pub path_depth: usize,
    /// Bytes of names and values of extended attributes of one entry.
    pub entry_attribute_bytes: usize,
    /// Bytes of names and values of extended attributes of one layer.
    pub layer_attribute_bytes: u64,
    /// Bytes of one PAX or GNU extended header.
    pub extended_header_bytes: u64,
    /// Members of an image archive.
    pub archive_members: u64,
    /// Bytes of a manifest, index or configuration.
    pub document_bytes: u64,
    /// Layers of an image. Overlayfs accepts 500 lower directories (kernel, `OVL_MAX_STACK`), but their names have to fit
    /// in one page of mount options, so the runtime refuses more than this.
    pub layers: usize,
    /// Bytes of one blob as transferred.
    pub blob_bytes: u64,
    /// Base-two logarithm of the zstd window, which is memory of ours.
    pub zstd_window_log: u32,
    /// Bytes to leave free on the store's file system, and as many inodes as ext4 makes for them; writing stops before.
    pub disk_reserve_bytes: u64,
}

/// Bytes of names and values of extended attributes of one entry of a tree, written or read.
pub(crate) const TREE_ATTRIBUTE_BYTES: usize = 16 << 20;

impl Limits {
    /// For trees of files that operators keep, as volumes: bounded by the disk, whose reserve is kept, and by what the
    /// kernel takes as a path.
    #[must_use]
    pub fn for_trees() -> Self {
        Self {
            layer_entries: u64::MAX,
            uncompressed_bytes: u64::MAX,
            compression_ratio: u64::MAX,
            path_depth: 2048,
            // Some file systems keep 64 KiB for each attribute.
            entry_attribute_bytes: TREE_ATTRIBUTE_BYTES,
            extended_header_bytes: 17 << 20,
            layer_attribute_bytes: u64::MAX,
            ..Self::default()
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        const MEBIBYTE: u64 = 1 << 20;
        const GIBIBYTE: u64 = 1 << 30;
        Self {
            layer_entries: 1_000_000,
            uncompressed_bytes: 64 * GIBIBYTE,
            compression_ratio: 200,
            ratio_free_bytes: 256 * MEBIBYTE,
            path_bytes: 4095,
            path_depth: 128,
            entry_attribute_bytes: 64 << 10,
            layer_attribute_bytes: 64 * MEBIBYTE,
            extended_header_bytes: MEBIBYTE,
            archive_members: 10_000,
            document_bytes: 4 * MEBIBYTE,
            layers: 400,
            blob_bytes: 32 * GIBIBYTE,
            zstd_window_log: 27,
            disk_reserve_bytes: 128 * MEBIBYTE,
        }
    }
}
