//! Which modules to load, and in which order: the closure over modules.dep of those asked for. Pure.
//!
//! modules.dep has a line `MODULE: DEPENDENCY…` for each module, all dependencies listed, the deepest last
//! (depmod(8)); modules.builtin lists those compiled into the kernel.

use std::{collections::HashMap, path::Path};

/// The modules of one kernel.
pub(super) struct Modules<'a> {
    /// By name: the module's file and the files it needs, the deepest last.
    loadable: HashMap<String, (&'a str, Vec<&'a str>)>,
    built_in: Vec<String>,
}

impl<'a> Modules<'a> {
    /// Reads the texts of modules.dep and modules.builtin.
    pub(super) fn parse(dependencies: &'a str, built_in: &str) -> Self {
        let loadable = dependencies.lines().filter_map(|line| {
            let (file, needs) = line.split_once(':')?;
            Some((name_of(file), (file, needs.split_whitespace().collect())))
        });
        Self { loadable: loadable.collect(), built_in: built_in.lines().map(name_of).collect() }
    }

    /// Adds the files of `name`, dependencies first, to `order`, none twice; whether the kernel has the module.
    pub(super) fn add(&self, name: &str, order: &mut Vec<&'a str>) -> bool {
        let Some((file, needs)) = self.loadable.get(name) else {
            return self.built_in.iter().any(|built_in| built_in == name);
        };
        for file in needs.iter().rev().chain([file]) {
            if !order.contains(file) {
                order.push(file);
            }
        }
        true
    }
}

/// A module's name: its file's, without `.ko` and compression, with `_` for `-`.
fn name_of(file: &str) -> String {
    let file = Path::new(file).file_name().unwrap_or_default().to_string_lossy();
    file.split(".ko").next().unwrap_or_default().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::Modules;

    const DEPENDENCIES: &str = "\
kernel/drivers/net/veth.ko.xz:
kernel/net/a-top.ko.xz: kernel/net/middle.ko.xz kernel/net/deep.ko.xz
kernel/net/middle.ko.xz: kernel/net/deep.ko.xz
kernel/net/deep.ko.xz:
";

    #[test]
    fn dependencies_come_first_and_once() {
        let modules = Modules::parse(DEPENDENCIES, "kernel/net/sched/sch_fq.ko\n");
        let mut order = Vec::new();
        assert!(modules.add("middle", &mut order));
        assert!(modules.add("a_top", &mut order));
        assert!(modules.add("veth", &mut order));
        assert_eq!(
            order,
            [
                "kernel/net/deep.ko.xz",
                "kernel/net/middle.ko.xz",
                "kernel/net/a-top.ko.xz",
                "kernel/drivers/net/veth.ko.xz"
            ]
        );
    }

    #[test]
    fn built_in_is_there_and_unknown_is_not() {
        let modules = Modules::parse(DEPENDENCIES, "kernel/net/sched/sch_fq.ko\n");
        let mut order = Vec::new();
        assert!(modules.add("sch_fq", &mut order));
        assert!(!modules.add("tun", &mut order));
        assert!(order.is_empty());
    }
}
