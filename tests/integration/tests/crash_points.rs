//! The daemon is killed at every named point where it writes, makes or removes something, and goes on as if nothing had
//! been: what was acknowledged is there, what ran still runs, and nothing is left over.

#[path = "crash_points/damage.rs"]
mod damage;
#[path = "crash_points/drive.rs"]
mod drive;
#[path = "crash_points/invariants.rs"]
mod invariants;
#[path = "crash_points/single.rs"]
mod single;
#[path = "crash_points/table.rs"]
mod table;
#[path = "crash_points/together.rs"]
mod together;
#[path = "crash_points/work.rs"]
mod work;

use coracle_integration::harness;

#[test]
fn every_point_is_in_the_table_and_in_the_sources() {
    table::check();
}

#[test]
fn first_starts_and_new_swarms() {
    harness::bare("crash_first", 0, 0, single::births);
}

#[test]
fn log_and_snapshots() {
    harness::bare("crash_log", 0, 0, |lab| single::one_node(lab, &[table::Group::Log]));
}

#[test]
fn images_and_volumes() {
    let groups = [table::Group::Images, table::Group::Volumes];
    harness::bare("crash_images", 0, 0, |lab| single::one_node(lab, &groups));
}

#[test]
fn containers() {
    harness::bare("crash_containers", 0, 0, |lab| single::one_node(lab, &[table::Group::Containers]));
}

#[test]
fn supervisors() {
    harness::bare("crash_supervisors", 0, 0, |lab| single::one_node(lab, &[table::Group::Supervisors]));
}

#[test]
fn joining_and_leaving() {
    harness::bare("crash_members", 0, 0, together::all);
}

#[test]
fn the_journal_is_never_the_truth() {
    harness::bare("journal_damage", 0, 0, damage::all);
}
