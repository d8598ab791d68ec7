"""What first person needs: rays instead of places, keyframes, and voxels of what was seen of the world."""
