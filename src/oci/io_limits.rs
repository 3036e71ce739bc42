//! The limits of block devices, huge pages and RDMA.

use super::cgroup::Limit;
use super::limits::{limit, refused};
use super::list_of;
use crate::step::Result;
use oci_spec::runtime::{LinuxBlockIo, LinuxResources, LinuxThrottleDevice};

pub fn limits(resources: &LinuxResources, found: &mut Vec<Limit>) -> Result<()> {
    if let Some(io) = resources.block_io() {
        weights(io, found)?;
        throttles(io, found);
    }
    for page in list_of(resources.hugepage_limits()) {
        let size = page.page_size();
        if size.contains('/') || !size.ends_with('B') {
            return refused("hugepageLimits", &format!("{size:?}: expected such as 2MB"));
        }
        let most = page.limit().to_string();
        found.push(limit(format!("hugetlb.{size}.max"), &most));
        // Reservations too: "by default if supported by the kernel".
        found.push(limit(format!("hugetlb.{size}.rsvd.max"), &most));
    }
    for (device, most) in resources.rdma().iter().flatten() {
        let mut line = device.clone();
        if let Some(handles) = most.hca_handles() {
            line += &format!(" hca_handle={handles}");
        }
        if let Some(objects) = most.hca_objects() {
            line += &format!(" hca_object={objects}");
        }
        if line == *device {
            return refused("rdma", &format!("{device}: expected hcaHandles or hcaObjects"));
        }
        found.push(limit("rdma.max", line));
    }
    Ok(())
}

fn weights(io: &LinuxBlockIo, found: &mut Vec<Limit>) -> Result<()> {
    if io.leaf_weight().unwrap_or(0) != 0 {
        return refused("blockIO.leafWeight", "cgroup 2 has none");
    }
    if let Some(weight) = io.weight().filter(|weight| *weight != 0) {
        found.push(limit("io.weight", converted(weight)));
    }
    for device in list_of(io.weight_device()) {
        if device.leaf_weight().unwrap_or(0) != 0 {
            return refused("blockIO.weightDevice.leafWeight", "cgroup 2 has none");
        }
        let (major, minor) = (device.major(), device.minor());
        if let Some(weight) = device.weight().filter(|weight| *weight != 0) {
            found.push(limit("io.weight", format!("{major}:{minor} {}", converted(weight))));
        }
    }
    Ok(())
}

/// From 10 to 1000 there, from 1 to 10000 here.
fn converted(weight: u16) -> String {
    let weight = u32::from(weight.clamp(10, 1000));
    (1 + (weight - 10) * 9999 / 990).to_string()
}

fn throttles(io: &LinuxBlockIo, found: &mut Vec<Limit>) {
    let kinds: [(&str, &Option<Vec<LinuxThrottleDevice>>); 4] = [
        ("rbps", io.throttle_read_bps_device()),
        ("wbps", io.throttle_write_bps_device()),
        ("riops", io.throttle_read_iops_device()),
        ("wiops", io.throttle_write_iops_device()),
    ];
    for (kind, devices) in kinds {
        for device in list_of(devices) {
            let (major, minor) = (device.major(), device.minor());
            let rate = match device.rate() {
                0 => "max".to_string(),
                rate => rate.to_string(),
            };
            found.push(limit("io.max", format!("{major}:{minor} {kind}={rate}")));
        }
    }
}
