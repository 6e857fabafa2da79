// The keywords that say what is watched, of fix nnpkit/watch and, for a watch of its own, of the pair style.

#ifndef NNPKIT_WATCH_KEYWORDS_H
#define NNPKIT_WATCH_KEYWORDS_H

#include "watch.h"
#include "words.h"

namespace LAMMPS_NS {

const Keywords<nnpkit::WatchSettings> &watch_keywords();

}  // namespace LAMMPS_NS

#endif
