# Waits until whoever holds the other end of its input is gone; then ends what belongs to the cluster in the folder $1.
folder=$1
read -r _

belongs() {
    case $(readlink "/proc/$1/exe") in
    */slurm* | */munged*)
        case $(readlink "/proc/$1/cwd") in
        "$folder"/*) return 0 ;;
        *) return 1 ;;
        esac
        ;;
    esac
    grep -Fqsxz -- "SLURM_CONF=$folder/slurm.conf" "/proc/$1/environ" && grep -qsz '^SLURMD_NODENAME=' "/proc/$1/environ"
}

parent() {
    while read -r key value; do
        [ "$key" != PPid: ] || echo "$value"
    done <"/proc/$1/status"
}

# With all that they started, whatever has become of its environment.
find_all() {
    found=' '
    grown=yes
    for process in /proc/[0-9]*; do
        belongs "${process#/proc/}" && found="$found${process#/proc/} "
    done
    while [ -n "$grown" ]; do
        grown=
        for process in /proc/[0-9]*; do
            case $found in
            *" ${process#/proc/} "*) continue ;;
            *" $(parent "${process#/proc/}") "*)
                found="$found${process#/proc/} "
                grown=yes
                ;;
            esac
        done
    done
}

# A daemon may have begun something since it was seen.
for _ in 1 2 3 4 5; do
    find_all
    [ "$found" != ' ' ] || break
    for pid in $found; do
        kill -KILL "$pid"
    done
done
rm -rf -- "$folder"
