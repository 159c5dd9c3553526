// The standard library first: its functions stay those of every processor.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "threads.hpp"
#include "voxel_levels.hpp"

#if defined(RANEF_LEVELS)
#pragma GCC target("arch=x86-64-v4")
#define RANEF_LEVEL v4
#define RANEF_MOST_COLUMNS ranef::most_columns_of_levels
#include "voxel_tiles.hpp"
#endif
