//! Which board this is, by its device tree, and where its lights are.

use std::fs;
use std::path::Path;

use serde::Deserialize;

/// The device tree's root node. The second stays visible where a sandbox hides most of `/proc`.
pub const DEVICE_TREE: [&str; 2] =
    ["/proc/device-tree/compatible", "/sys/firmware/devicetree/base/compatible"];

/// The table of boards.
const PINS: &str = include_str!("../../board/pins.toml");

/// How lines are reached on a board.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// A Raspberry Pi's registers.
    Rppal,
    /// The kernel's GPIO character device.
    Gpiochip,
}

/// A board of `board/pins.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    /// Its name, for people.
    pub name: String,
    /// Names in the device tree's root, any of which marks the board.
    pub compatible: Vec<String>,
    /// How its lines are reached.
    pub backend: Access,
    /// Path or label of the chip.
    pub chip: String,
    /// How many lines lead to the header, from 0.
    pub on_header: u32,
    /// Line of the light for power.
    pub power: u32,
    /// Line of the light for the network.
    pub network: u32,
    /// Line of the light for the air.
    pub on_air: u32,
    /// Line of the button.
    pub button: u32,
    /// Whether the button connects its line to ground.
    pub button_active_low: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pins {
    board: Vec<Board>,
}

/// What the device tree says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceTree {
    /// Names of the root, the most special one first (Devicetree Specification 0.4, section 2.3.1); empty where there
    /// is no device tree.
    pub compatible: Vec<String>,
}

impl DeviceTree {
    /// Reads the first of these files that there is.
    pub fn read(paths: &[impl AsRef<Path>]) -> Self {
        let bytes = paths.iter().find_map(|path| fs::read(path).ok()).unwrap_or_default();
        let names = bytes.split(|byte| *byte == 0).filter(|name| !name.is_empty());
        Self { compatible: names.map(|name| String::from_utf8_lossy(name).into_owned()).collect() }
    }

    /// The board, where the table has it.
    pub fn board(&self) -> Option<Board> {
        let mut boards = boards();
        let of = |name: &String| boards.iter().position(|board| board.compatible.contains(name));
        let index = self.compatible.iter().find_map(of)?;
        Some(boards.swap_remove(index))
    }

    /// The most special name, for messages.
    pub fn name(&self) -> &str {
        self.compatible.first().map_or("a machine without a device tree", String::as_str)
    }
}

/// Every board of the table.
pub fn boards() -> Vec<Board> {
    let pins: Pins =
        toml::from_str(PINS).expect("board/pins.toml is part of the program, and a test reads it");
    pins.board
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn tree(compatible: &[&str]) -> DeviceTree {
        DeviceTree { compatible: compatible.iter().map(|name| (*name).to_owned()).collect() }
    }

    #[test]
    fn boards_are_known_by_any_name_of_their_device_tree() {
        let name = |compatible: &[&str]| tree(compatible).board().map(|board| board.name);
        assert_eq!(name(&["linux,dummy-virt"]).as_deref(), Some("QEMU virt"));
        let zero = ["raspberrypi,model-zero-2-w", "brcm,bcm2837"];
        assert_eq!(name(&zero).as_deref(), Some("Raspberry Pi Zero to 3"));
        assert_eq!(name(&["raspberrypi,4-model-b", "brcm,bcm2711"]).as_deref(), Some("Raspberry Pi 4"));
        assert_eq!(name(&["raspberrypi,5-model-b", "brcm,bcm2712"]).as_deref(), Some("Raspberry Pi 5"));
        assert_eq!(name(&["pine64,quartz64-a", "rockchip,rk3566"]), None);
        assert_eq!(name(&[]), None);
    }

    #[test]
    fn the_first_device_tree_that_there_is_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let (absent, here) = (folder.path().join("absent"), folder.path().join("compatible"));
        assert_eq!(DeviceTree::read(&[&absent]), DeviceTree::default());
        fs::write(&here, b"raspberrypi,3-model-b\0brcm,bcm2837\0").unwrap();
        let read = DeviceTree::read(&[&absent, &here]);
        assert_eq!(read, tree(&["raspberrypi,3-model-b", "brcm,bcm2837"]));
        assert_eq!(read.name(), "raspberrypi,3-model-b");
    }

    #[test]
    fn no_board_has_two_things_on_one_line_or_a_line_that_is_not_on_the_header() {
        let mut names = BTreeSet::new();
        for board in boards() {
            let lines = [board.power, board.network, board.on_air, board.button];
            assert_eq!(BTreeSet::from(lines).len(), lines.len(), "{}", board.name);
            assert!(lines.iter().all(|line| *line < board.on_header), "{}", board.name);
            for name in &board.compatible {
                assert!(names.insert(name.clone()), "{name} marks two boards");
            }
        }
        assert!(names.len() > 5);
    }
}
