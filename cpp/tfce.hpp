// Threshold-free cluster enhancement, exact (Smith & Nichols 2009, NeuroImage 44).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace ranef {

// Who is whose neighbour: those of voxel i are indices[starts[i]] .. indices[starts[i + 1] - 1].
struct Neighbours {
    std::size_t n;
    const std::int32_t* starts;
    const std::int32_t* indices;
};

// Integral over heights h from 0 to the voxel's own of extent(h)^E h^H dh, for values above zero;
// zero elsewhere. Infinite values stay infinite, and count as the largest finite one to others.
void tfce(const Neighbours& graph, const double* values, double E, double H, double* out);

// Neighbours of the voxels of a mask (nx, ny, nz) that share a face, in the order of the mask.
void faces_of_voxels(const bool* mask, std::size_t nx, std::size_t ny, std::size_t nz,
                     std::vector<std::int32_t>& starts, std::vector<std::int32_t>& indices);

} // namespace ranef
