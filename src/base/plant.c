#include "base/plant.h"

enum plant plant_chosen = PLANT_NONE;

/* By this a build with planted bugs is told from a real one (test/scenario/plants_in.sh). */
extern const char plant_mark[];
const char plant_mark[] = "comfymux was built with planted bugs";
