"""ImageNet in the forms in which people download it, and its extraction into train/WNID and val/WNID."""
