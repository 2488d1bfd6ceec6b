/* pkictl: see ctl.h. */
#include "pkifs/ctl.h"

int main(int argc, char **argv)
{
	return ctl_main(argc, argv);
}
