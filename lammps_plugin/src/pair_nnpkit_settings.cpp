// What the input says: pair_style and pair_coeff.

#include "pair_nnpkit.h"

#include "collective.h"

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "fmt/format.h"
#include "memory.h"
#include "update.h"
#include "utils.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <stdexcept>

using namespace LAMMPS_NS;

static constexpr int CHUNK_CPU =
    256;  // measured: fewer are slowed by overhead, more gain little and cost memory
static constexpr int CHUNK_MEMBERS = 128;  // of symmetry functions: the members' gradients stay in the cache
static constexpr int CHUNK_GPU = 1024;     // a GPU needs more atoms at once to be busy
static constexpr int CHUNK_KERNEL_GPU = 4096;  // and needs less memory for each of them in a kernel

static int usual_chunk(const nnpkit::Model &model, int threads) {
  const auto &info = model.info();
  if (model.takes_systems()) return CHUNK_KERNEL_GPU;
  if (info.device != "cpu") return CHUNK_GPU;
  const bool fused = info.kernel.rfind("fused", 0) == 0;
  return fused && info.member_kind == "acsf" ? CHUNK_MEMBERS * threads : CHUNK_CPU;
}

namespace LAMMPS_NS {

// The words of a command one after the other; all ranks stop at the first that makes no sense.
class Words : protected Pointers {
 public:
  Words(LAMMPS *lmp, int narg, char **arg) : Pointers(lmp), left(arg, arg + narg) {}

  bool more() const { return at < left.size(); }
  std::string keyword() { return key = left[at++]; }
  std::string value() {
    if (!more()) error->all(FLERR, fmt::format("Pair style nnpkit: keyword {} has no value", key));
    return left[at++];
  }
  void refuse(const std::string &found, const std::string &expected) {
    error->all(FLERR, fmt::format("Pair style nnpkit: {} is '{}', expected {}", key, found, expected));
  }
  bigint count(bigint least, const std::string &expected) {
    const std::string text = value();
    if (!utils::is_integer(text)) refuse(text, expected);
    const bigint number = utils::bnumeric(FLERR, text, false, lmp);
    if (number < least) refuse(text, expected);
    return number;
  }
  // a number, or INF
  double number(double least, const std::string &expected) {
    const std::string text = value();
    if (text == "INF") return std::numeric_limits<double>::infinity();
    if (!utils::is_double(text)) refuse(text, expected);
    const double found = utils::numeric(FLERR, text, false, lmp);
    if (!(found >= least)) refuse(text, expected);
    return found;
  }
  bool yes() {
    const std::string text = value();
    if (text != "yes" && text != "no") refuse(text, "yes or no");
    return text == "yes";
  }
  // a file name, empty for NULL
  std::string file() {
    const std::string text = value();
    return text == "NULL" ? "" : text;
  }

 private:
  std::vector<std::string> left;
  size_t at = 0;
  std::string key;
};

}  // namespace LAMMPS_NS

/* ---------------------------------------------------------------------- */

void PairNNPKit::allocate() {
  allocated = 1;
  const int n = atom->ntypes;
  memory->create(setflag, n + 1, n + 1, "pair:setflag");
  memory->create(cutsq, n + 1, n + 1, "pair:cutsq");
  for (int i = 0; i <= n; i++)
    for (int j = 0; j <= n; j++) {
      setflag[i][j] = 0;
      cutsq[i][j] = 0.0;
    }
}

/* ----------------------------------------------------------------------
   pair_style nnpkit keyword value ...
------------------------------------------------------------------------- */

void PairNNPKit::settings(int narg, char **arg) {
  // the model is in eV and angstrom
  if (strcmp(update->unit_style, "metal") == 0)
    energy_unit = 1.0;
  else if (strcmp(update->unit_style, "real") == 0)
    energy_unit = utils::get_conversion_factor(utils::ENERGY, utils::METAL2REAL);
  else
    error->all(FLERR,
               fmt::format("Pair style nnpkit needs units metal or real, not {}: the model is in eV and "
                           "Angstrom and converts to these two only",
                           update->unit_style));

  // a second pair_style command starts anew: it needs a pair_coeff again
  placement = nnpkit::Placement();
  placement.rank_on_node = nnpkit::rank_on_node(world);
  chunk_set = false;
  every = 1;
  percent = 95.0;
  extrapolation_settings = nnpkit::ExtrapolationSettings();
  watch = nnpkit::Watch();
  model.reset();
  if (allocated)
    for (int i = 1; i <= atom->ntypes; i++)
      for (int j = i; j <= atom->ntypes; j++) setflag[i][j] = 0;

  Words words(lmp, narg, arg);
  while (words.more()) {
    const std::string key = words.keyword();
    if (!placement_keyword(key, words) && !watch_keyword(key, words))
      error->all(FLERR, fmt::format("Pair style nnpkit: unknown keyword '{}', expected device, precision, "
                                    "kernel, chunk, omp, every, percentile, watch, min_distance, max_force, "
                                    "frames, interval, limit, restart, showew, showewsum, maxew or resetew",
                                    key));
  }
}

/* ----------------------------------------------------------------------
   where and how the model is evaluated; whether it is such a keyword
------------------------------------------------------------------------- */

bool PairNNPKit::placement_keyword(const std::string &key, Words &words) {
  if (key == "device") {
    const std::string value = words.value();
    if (value == "auto")
      placement.device = nnpkit::Device::AUTO;
    else if (value == "cpu")
      placement.device = nnpkit::Device::CPU;
    else if (value == "cuda")
      placement.device = nnpkit::Device::CUDA;
    else
      words.refuse(value, "auto, cpu or cuda");
  } else if (key == "precision") {
    const std::string value = words.value();
    if (value == "float64")
      placement.precision = nnpkit::Arithmetic::FLOAT64;
    else if (value == "mixed")
      placement.precision = nnpkit::Arithmetic::MIXED;
    else if (value == "float32")
      placement.precision = nnpkit::Arithmetic::FLOAT32;
    else
      words.refuse(value, "float64, mixed or float32");
  } else if (key == "kernel") {
    const std::string value = words.value();
    if (value != "fused" && value != "torchscript") words.refuse(value, "fused or torchscript");
    placement.fused = (value == "fused");
  } else if (key == "chunk") {
    chunk = static_cast<int>(words.count(0, "a number of atoms, or 0 for all at once"));
    chunk_set = true;
  } else if (key == "omp") {
    placement.threads = static_cast<int>(words.count(1, "a number of threads per rank"));
  } else {
    return false;
  }
  return true;
}

/* ----------------------------------------------------------------------
   what is observed and what follows from it; whether it is such a keyword
------------------------------------------------------------------------- */

bool PairNNPKit::watch_keyword(const std::string &key, Words &words) {
  auto &wanted = watch.settings;
  if (key == "every") {
    every = words.count(1, "a number of steps");
  } else if (key == "percentile") {
    percent = words.number(0.0, "a number from 0 to 100");
    if (percent > 100.0) words.refuse(fmt::format("{}", percent), "a number from 0 to 100");
  } else if (key == "watch") {
    const std::string name = words.value();
    const auto *const begin = nnpkit::OBSERVABLE_NAMES.begin(), *const end = begin + nnpkit::QUANTITIES;
    const auto *const found = std::find(begin, end, name);
    if (found == end)
      words.refuse(name, "force_std_max, force_std_mean, force_std_percentile, energy_std or extrapolations");
    const double lower = words.number(0.0, "a lower bound");
    const double upper = words.number(lower, "an upper bound that is not below the lower one, or INF");
    wanted.bounds.push_back({static_cast<nnpkit::Observable>(found - begin), lower, upper});
  } else if (key == "min_distance") {
    wanted.min_distance = words.number(0.0, "a distance");
  } else if (key == "max_force") {
    wanted.max_force = words.number(0.0, "a force");
  } else if (key == "frames") {
    wanted.frames = words.file();
  } else if (key == "restart") {
    wanted.restart = words.file();
  } else if (key == "interval") {
    wanted.interval = words.count(1, "a number of steps");
  } else if (key == "limit") {
    wanted.limit = words.count(0, "a number of frames");
  } else if (key == "showew") {
    extrapolation_settings.show = words.yes();
  } else if (key == "showewsum") {
    extrapolation_settings.summary = words.count(0, "a number of steps, or 0");
  } else if (key == "maxew") {
    extrapolation_settings.most = words.count(0, "a number of extrapolations, or 0");
  } else if (key == "resetew") {
    extrapolation_settings.reset_each_step = words.yes();
  } else {
    return false;
  }
  return true;
}

/* ----------------------------------------------------------------------
   pair_coeff * * model.pt O H NULL
------------------------------------------------------------------------- */

void PairNNPKit::coeff(int narg, char **arg) {
  if (!allocated) allocate();
  if (narg < 3 || strcmp(arg[0], "*") != 0 || strcmp(arg[1], "*") != 0)
    error->all(FLERR,
               "Pair style nnpkit expects: pair_coeff * * model.pt ELEMENT ... with one element or "
               "NULL per atom type");
  load(arg[2]);
  map_types(arg[2], narg - 3, arg + 3);
  check_what_is_watched();
  log_model(arg[2]);
}

/* ----------------------------------------------------------------------
   all ranks load the model, or all ranks stop with the same message
------------------------------------------------------------------------- */

void PairNNPKit::load(const std::string &file) {
  // LAMMPS looks into the folders of LAMMPS_POTENTIALS too
  const std::string found = utils::get_potential_file_path(file);
  model_file = file;
  model.reset();
  std::string problem;
  try {
    const std::string bytes = nnpkit::read_on_first_rank(found.empty() ? file : found, world);
    try {
      model = nnpkit::load_model(bytes, placement);
    } catch (const std::exception &failure) {
      problem = file + ": " + failure.what();
    }
  } catch (const std::exception &failure) {
    error->all(FLERR, fmt::format("Pair style nnpkit: {}", failure.what()));  // same on all ranks
  }
  problem = nnpkit::agree_on_error(problem, world);
  if (!problem.empty()) error->all(FLERR, fmt::format("Pair style nnpkit: {}", problem));

  if (!chunk_set) chunk = usual_chunk(*model, placement.threads);
  lists.current = false;
}

/* ---------------------------------------------------------------------- */

void PairNNPKit::map_types(const std::string &file, int given, char **names) {
  const auto &known = model->info().elements;
  const std::string listed = utils::join_words(known, " ");
  const int ntypes = atom->ntypes;
  if (given != ntypes)
    error->all(FLERR,
               fmt::format("Pair style nnpkit: pair_coeff * * {} needs one element or NULL for each of the "
                           "{} atom types, got {}; the model knows {}",
                           file, ntypes, given, listed));

  element.assign(ntypes + 1, -1);
  for (int itype = 1; itype <= ntypes; itype++) {
    const std::string name = names[itype - 1];
    if (name == "NULL") continue;
    const auto at = std::find(known.begin(), known.end(), name);
    if (at == known.end())
      error->all(FLERR,
                 fmt::format("Pair style nnpkit: element {} of atom type {} is not in {}, which knows {}",
                             name, itype, file, listed));
    element[itype] = static_cast<int>(at - known.begin());
  }

  int count = 0;
  for (int i = 1; i <= ntypes; i++)
    for (int j = i; j <= ntypes; j++) {
      setflag[i][j] = (element[i] >= 0 && element[j] >= 0) ? 1 : 0;
      count += setflag[i][j];
    }
  if (count == 0) error->all(FLERR, "Pair style nnpkit: every atom type is NULL");
}

/* ---------------------------------------------------------------------- */

void PairNNPKit::check_what_is_watched() {
  const auto &info = model->info();
  bool disagreement = false, ranges = extrapolation_settings.show || extrapolation_settings.most > 0;
  for (const auto &bounds : watch.settings.bounds)
    (bounds.quantity == nnpkit::EXTRAPOLATIONS ? ranges : disagreement) = true;
  if (disagreement && info.n_members < 2)
    error->all(FLERR,
               "Pair style nnpkit: one potential cannot disagree with itself; to watch the disagreement "
               "give a committee.pt, see 'nnpkit export --committee'");
  if (ranges && info.n_functions == 0)
    error->all(FLERR,
               "Pair style nnpkit: this model has no ranges of its training data, so that extrapolation "
               "cannot be told");
}

/* ---------------------------------------------------------------------- */

void PairNNPKit::log_model(const std::string &file) {
  if (comm->me != 0) return;
  const auto &info = model->info();
  std::string mapping;
  for (int itype = 1; itype <= atom->ntypes; itype++)
    mapping += fmt::format(" {}={}", itype, element[itype] < 0 ? "NULL" : info.elements[element[itype]]);
  const std::string chunks = chunk ? fmt::format("{} atoms at once", chunk) : "all atoms at once";
  const std::string kind = info.n_members > 1 ? fmt::format("committee of {} potentials", info.n_members)
                                              : fmt::format("{} potential", info.kind);

  utils::logmesg(lmp, "nnpkit: {}: {} for {}, cutoff {:.6g} A, {} parameters\n", file, kind,
                 utils::join_words(info.elements, " "), info.cutoff, info.n_parameters);
  utils::logmesg(lmp, "nnpkit: atom types{}; {}, {}{}, {} thread(s) per rank, {}\n", mapping, info.device,
                 info.precision, info.kernel.empty() ? "" : ", " + info.kernel, placement.threads, chunks);
  utils::logmesg(lmp,
                 "nnpkit: self-test passed (energy {:.1e} eV, gradient {:.1e} eV/A); torch {}, file "
                 "written by nnpkit {} with torch {}\n",
                 info.energy_error, info.gradient_error, NNPKIT_TORCH_VERSION, info.nnpkit_version,
                 info.torch_version);
  if (!info.missing_baseline.empty())
    error->warning(
        FLERR,
        "Pair style nnpkit: {} is a correction to {}, which the file does not hold; add it with pair "
        "style hybrid/overlay, or energies and forces are not those of the training data",
        file, info.missing_baseline);
}
