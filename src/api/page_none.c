/* In the place of what web/build.mjs makes, where it cannot be made. */
#include "api/page.h"

const struct page_file page_files[] = {{NULL, NULL, NULL, NULL, 0, NULL, 0}};
