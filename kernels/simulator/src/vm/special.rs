//! Special registers: `%tid.x`, `%laneid`, and their kin.

use super::registers::LANES;

/// What a launch says of a warp.
#[derive(Clone, Copy, Debug)]
pub struct Position {
    /// Blocks of the grid.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: [u32; 3],
    /// The block.
    pub index: [u32; 3],
    /// The warp in its block.
    pub warp: u32,
    /// Bytes of dynamic shared memory, and of all.
    pub shared: [u32; 2],
    /// The core that runs it.
    pub core: u32,
}

/// The coordinates of element `index` of a box.
pub fn coordinates(index: u32, [x, y, _]: [u32; 3]) -> [u32; 3] {
    [index % x, index / x % y, index / x / y]
}

impl Position {
    /// A special register in every lane; `None` if it is not modelled.
    pub fn special(&self, name: &str) -> Option<[u32; LANES]> {
        let axis = |name: &str| ["x", "y", "z"].iter().position(|axis| *axis == name);
        let same = |value: u32| Some([value; LANES]);
        let lanes = |f: fn(u32) -> u32| Some(std::array::from_fn(|lane| f(lane as u32)));
        if let Some((register, part)) = name.split_once('.') {
            let axis = axis(part)?;
            return match register {
                "%tid" => {
                    let thread = |lane| self.warp * LANES as u32 + lane as u32;
                    Some(std::array::from_fn(|lane| coordinates(thread(lane), self.block)[axis]))
                }
                "%ntid" => same(self.block[axis]),
                "%ctaid" | "%clusterid" => same(self.index[axis]),
                "%nctaid" | "%nclusterid" => same(self.grid[axis]),
                "%cluster_ctaid" => same(0),
                "%cluster_nctaid" => same(1),
                _ => None,
            };
        }
        match name {
            "%laneid" => lanes(|lane| lane),
            "%lanemask_eq" => lanes(|lane| 1 << lane),
            "%lanemask_lt" => lanes(|lane| (1 << lane) - 1),
            "%lanemask_le" => lanes(|lane| u32::MAX >> (31 - lane)),
            "%lanemask_gt" => lanes(|lane| !(u32::MAX >> (31 - lane))),
            "%lanemask_ge" => lanes(|lane| u32::MAX << lane),
            "%warpid" => same(self.warp),
            "%nwarpid" => same(self.block.iter().product::<u32>().div_ceil(LANES as u32)),
            "%smid" => same(self.core),
            "%nsmid" => same(rayon::current_num_threads() as u32),
            "%dynamic_smem_size" => same(self.shared[0]),
            "%total_smem_size" => same(self.shared[1]),
            "%cluster_ctarank" => same(0),
            "%cluster_nctarank" => same(1),
            "WARP_SZ" => same(LANES as u32),
            super::lower::LOCAL_BASE => same(0),
            _ => None,
        }
    }

    /// Whether [`Position::special`] knows the register.
    pub fn is_known(name: &str) -> bool {
        let nowhere = Self { grid: [1; 3], block: [1; 3], index: [0; 3], warp: 0, shared: [0; 2], core: 0 };
        nowhere.special(name).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::Position;

    #[test]
    fn lanes_know_where_they_are() {
        let position =
            Position { grid: [7, 2, 3], block: [5, 3, 9], index: [6, 1, 2], warp: 1, shared: [64, 80], core: 0 };
        let lane3 = |name| position.special(name).map(|lanes| lanes[3]);
        // thread 35 of blocks of 5 x 3
        assert_eq!(["%tid.x", "%tid.y", "%tid.z"].map(lane3), [Some(0), Some(1), Some(2)]);
        assert_eq!(["%ntid.z", "%ctaid.x", "%nctaid.y"].map(lane3), [Some(9), Some(6), Some(2)]);
        let masks = ["%lanemask_eq", "%lanemask_lt", "%lanemask_le", "%lanemask_gt", "%lanemask_ge"].map(lane3);
        assert_eq!(masks, [8, 7, 15, !15, !7].map(Some));
        assert_eq!(position.special("%lanemask_gt").unwrap()[31], 0);
        assert_eq!(["%warpid", "%nwarpid", "%dynamic_smem_size"].map(lane3), [Some(1), Some(5), Some(64)]);
        assert_eq!(["%tid.w", "%envreg3"].map(lane3), [None, None]);
    }
}
