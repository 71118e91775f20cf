#include "fuzz_message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_message(HTTP_PARSE_RESPONSE, false, data, size);
    fuzz_message(HTTP_PARSE_RESPONSE, true, data, size);
    return 0;
}
