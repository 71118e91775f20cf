#!/bin/sh
# usage: plants_in.sh yes|no PROGRAM...
# Do these programs hold planted bugs (base/plant.h)? A real build must not.
want=$1
shift
status=0
for program in "$@"; do
    if grep -q "comfymux was built with planted bugs" "$program"; then have=yes; else have=no; fi
    if [ "$have" != "$want" ]; then
        echo "$program: planted bugs: $have, wanted: $want"
        status=1
    fi
done
exit $status
